package front

import (
	"time"
)

// tickEvery is the step of the coarse clock, and so the precision of every
// time-out.
const tickEvery = 500 * time.Millisecond

// clockLoop keeps the clock, ends what is past its deadline, and looks at the
// certificate files.
func (s *Server) clockLoop() {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	looked := time.Now()
	for {
		select {
		case <-s.stopped:
			return
		case at := <-t.C:
			s.tick()
			s.expire()
			if at.Sub(looked) >= filesCheckEvery {
				looked = at
				s.refreshCertificates()
			}
		}
	}
}

// tick sets the coarse time and, when its second has changed, the Date line.
func (s *Server) tick() {
	s.now.Store(time.Since(s.began).Milliseconds())
	line := make([]byte, 0, 40)
	line = append(line, "Date: "...)
	line = s.o.Now().UTC().AppendFormat(line, "Mon, 02 Jan 2006 15:04:05 GMT")
	line = append(line, "\r\n"...)
	if old := s.date.Load(); old == nil || string(*old) != string(line) {
		s.date.Store(&line)
	}
}

// expire wakes every connection whose deadline has passed. It looks at each
// connection, which costs about a millisecond for ten thousand.
func (s *Server) expire() {
	now := s.now.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if d := c.deadline.Load(); d.passed(now) && c.deadline.CompareAndSwap(d, 0) {
			c.wake()
		}
	}
}

func (s *Server) refreshCertificates() {
	if s.certs == nil || !s.certs.changed() {
		return
	}
	if err := s.certs.load(); err != nil {
		s.o.Logger.Warn("certificate files changed, the old ones stay", "listener", s.o.Name, "error", err)
		return
	}
	s.o.Logger.Info("certificate reloaded", "listener", s.o.Name, "cert", s.o.TLS.Cert)
}

// A deadline is a time of the coarse clock in milliseconds, doubled; the lowest
// bit says that the connection is idle and may be closed at any time. 0 is no
// deadline.
type deadline int64

func (d deadline) passed(now int64) bool { return d != 0 && int64(d>>1) < now }
func (d deadline) idle() bool            { return d&1 != 0 }

// deadlineIn returns the deadline that passes after d from now.
func (s *Server) deadlineIn(d time.Duration, idle bool) deadline {
	at := deadline(s.now.Load()+d.Milliseconds()+1) << 1
	if idle {
		at |= 1
	}
	return at
}
