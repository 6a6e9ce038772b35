package journal_test

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"sync"
	"syscall"
)

// plainLog is the least that is a durable log: length, checksum and payload
// appended to a growing file, with group commit by whoever comes first. It has
// no segments, quota, positions, release or recovery. It is what the journal is
// measured against.
type plainLog struct {
	f *os.File

	mu      sync.Mutex
	fill    []byte
	flight  []byte
	off     int64
	writing bool
	turn    *plainTurn
}

type plainTurn struct {
	done chan struct{}
	err  error
}

var plainTable = crc32.MakeTable(crc32.Castagnoli)

func openPlain(name string) (*plainLog, error) {
	f, err := os.Create(name)
	return &plainLog{f: f, turn: &plainTurn{done: make(chan struct{})}}, err
}

// put returns when b is on disk.
func (l *plainLog) put(b []byte) error {
	crc := crc32.Checksum(b, plainTable)
	l.mu.Lock()
	l.fill = binary.LittleEndian.AppendUint32(l.fill, uint32(len(b)))
	l.fill = binary.LittleEndian.AppendUint32(l.fill, crc)
	l.fill = append(l.fill, b...)
	turn := l.turn
	if l.writing {
		l.mu.Unlock()
		<-turn.done
		return turn.err
	}
	l.writing = true
	for first := true; first || len(l.fill) > 0; first = false {
		l.commitLocked()
	}
	l.writing = false
	l.mu.Unlock()
	return turn.err
}

func (l *plainLog) commitLocked() {
	turn := l.turn
	l.turn = &plainTurn{done: make(chan struct{})}
	l.fill, l.flight = l.flight[:0], l.fill
	l.mu.Unlock()
	_, turn.err = l.f.WriteAt(l.flight, l.off)
	if turn.err == nil {
		turn.err = syscall.Fdatasync(int(l.f.Fd()))
	}
	l.off += int64(len(l.flight))
	close(turn.done)
	l.mu.Lock()
}
