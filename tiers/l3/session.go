package l3

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
)

// A statement is the number of a prepared statement; the dialect has its text.
type statement int

// A dialect is what differs between databases: their SQL, how a connection is
// made, and what their errors mean. There is one for SQLite.
type dialect interface {
	// connect opens a connection for the role with all settings made and read
	// back. The error is classified.
	connect(r role) (driver.Conn, error)
	// text returns the SQL of a statement.
	text(st statement) string
	// classify adds the marker that err deserves, by its code.
	classify(err error) error
}

// A role is what a connection is used for.
type role int

const (
	roleWriter role = iota
	roleReader
	roleCheckpointer
)

func (r role) String() string { return [...]string{"writer", "reader", "checkpointer"}[r] }

// background is the context of all statements. The context of a call ends its
// waiting and is asked between statements; it never interrupts one, so that a
// connection is never left in an unknown state.
var background = context.Background()

// A session is one connection with its prepared statements. It speaks the
// driver's interface directly: database/sql would cost some 2 µs for each
// statement, a tenth of a row. One goroutine uses it at a time.
type session struct {
	dialect dialect
	role    role
	conn    driver.Conn // nil: broken, to be opened again
	stmts   [statementCount]driver.Stmt
	lastID  int64 // of the last row inserted
	args    []driver.NamedValue
	row     []driver.Value
}

func (s *session) ensure() error {
	if s.conn != nil {
		return nil
	}
	conn, err := s.dialect.connect(s.role)
	if err != nil {
		return err
	}
	s.conn = conn
	return nil
}

func (s *session) close() error {
	var errs []error
	for i, st := range s.stmts {
		if st != nil {
			errs = append(errs, st.Close())
		}
		s.stmts[i] = nil
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	s.conn = nil
	return errors.Join(errs...)
}

func (s *session) prepared(st statement) (driver.Stmt, error) {
	if p := s.stmts[st]; p != nil {
		return p, nil
	}
	p, err := s.conn.Prepare(s.dialect.text(st))
	if err != nil {
		return nil, s.fault("prepare", st, err)
	}
	s.stmts[st] = p
	return p, nil
}

func (s *session) bind(args []driver.Value) []driver.NamedValue {
	for i := len(s.args); i < len(args); i++ {
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1})
	}
	for i, a := range args {
		s.args[i].Value = a
	}
	return s.args[:len(args)]
}

// unbind lets go of the bytes of the caller.
func (s *session) unbind() {
	for i := range s.args {
		s.args[i].Value = nil
	}
}

// exec runs a statement that returns no rows and reports the number of rows
// changed.
func (s *session) exec(st statement, args ...driver.Value) (changed int64, err error) {
	p, err := s.prepared(st)
	if err != nil {
		return 0, err
	}
	result, err := p.(driver.StmtExecContext).ExecContext(background, s.bind(args))
	s.unbind()
	if err != nil {
		return 0, s.fault("execute", st, err)
	}
	s.lastID, _ = result.LastInsertId() // known at once, cannot fail
	changed, _ = result.RowsAffected()
	return changed, nil
}

// query calls each for every row until it returns an error, which query
// returns, errStop as nil. The row is valid during the call only; the byte
// slices in it are each's to keep.
func (s *session) query(st statement, each func(row []driver.Value) error, args ...driver.Value) (err error) {
	p, err := s.prepared(st)
	if err != nil {
		return err
	}
	rows, err := p.(driver.StmtQueryContext).QueryContext(background, s.bind(args))
	s.unbind()
	if err != nil {
		return s.fault("query", st, err)
	}
	err = s.walk(rows, each)
	if cerr := rows.Close(); err == nil && cerr != nil {
		err = s.fault("close", st, cerr)
	}
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

func (s *session) walk(rows driver.Rows, each func(row []driver.Value) error) error {
	n := len(rows.Columns())
	for len(s.row) < n {
		s.row = append(s.row, nil)
	}
	row := s.row[:n]
	defer clear(row)
	for {
		switch err := rows.Next(row); {
		case err == io.EOF:
			return nil
		case err != nil:
			return s.dialect.classify(err)
		}
		if err := each(row); err != nil {
			return err
		}
	}
}

func (s *session) fault(what string, st statement, err error) error {
	return fmt.Errorf("%s %s: %w", what, st, s.dialect.classify(err))
}

// rollback ends the transaction. After some errors, a full disk among them,
// SQLite has ended it by itself; then a new one can be begun. If neither is so
// the connection is given up and its next user opens it again.
func (s *session) rollback() {
	if s.try(stmtRollback) || s.try(stmtBeginRead) && s.try(stmtRollback) {
		return
	}
	_ = s.close() // whatever it says, the connection is not used again
}

func (s *session) try(st statement) bool {
	_, err := s.exec(st)
	return err == nil
}

// intOf, bytesOf: the values of a row. NULL is zero or nil.
func intOf(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}

func bytesOf(v driver.Value) []byte {
	b, _ := v.([]byte)
	return b
}

// A pool hands out its sessions, each to one user at a time.
type pool struct {
	free     chan *session
	sessions []*session
	closed   <-chan struct{}
}

// newPool opens size connections.
func newPool(d dialect, r role, size int, closed <-chan struct{}) (*pool, error) {
	p := &pool{free: make(chan *session, size), closed: closed}
	for range size {
		s := &session{dialect: d, role: r}
		p.sessions = append(p.sessions, s)
		if err := s.ensure(); err != nil {
			return nil, errors.Join(err, p.closeAll())
		}
		p.free <- s
	}
	return p, nil
}

// acquire waits for a session until ctx ends or the store is closed.
func (p *pool) acquire(ctx context.Context) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case <-p.closed:
		return nil, ErrClosed
	default:
	}
	select {
	case s := <-p.free:
		if err := s.ensure(); err != nil {
			p.free <- s
			return nil, err
		}
		return s, nil
	case <-p.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pool) release(s *session) { p.free <- s }

// drain waits until no session is in use and closes them all. closed must be
// closed before.
func (p *pool) drain() error {
	for range p.sessions {
		<-p.free
	}
	return p.closeAll()
}

func (p *pool) closeAll() error {
	var errs []error
	for _, s := range p.sessions {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}
