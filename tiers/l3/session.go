package l3

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/edgenode/edgenode/tiers/item"
)

// A statement is the number of a prepared statement; the dialect has its text.
type statement int

// A dialect is what differs between databases: their SQL, how a connection is
// made, and what their errors mean.
type dialect interface {
	// name says which database it is, without secrets.
	name() string
	// prepare creates the database's tables or migrates them, or refuses it.
	prepare(ctx context.Context) error
	// connect opens a connection for the role with all settings made and read
	// back. The error is classified.
	connect(ctx context.Context, r role) (driver.Conn, error)
	// readSettings asks a connection for its settings.
	readSettings(conn driver.Conn, r role) (map[string]string, error)
	// text returns the SQL of a statement, with the table of a mapping or
	// baseTable for {items}.
	text(st statement, table string) string
	// tableName returns the name of that table, and createTable creates it, with
	// its indexes, unless it is there.
	tableName(table string) string
	createTable(ctx context.Context, conn driver.Conn, table string) error
	// prepares reports whether connections of the role keep the statement
	// prepared; else its text is sent each time.
	prepares(r role, st statement) bool
	// rows returns how many rows a writing statement of several widths takes.
	rows(first statement) int
	// classify adds the marker that err deserves, by its code.
	classify(err error) error
	// fits reports why the record can never be stored here.
	fits(record item.View) error
	// maxPayload is the greatest content that fits, 0 if there is no limit or it
	// is not known yet.
	maxPayload() int64
	// durable reports whether a commit is on disk when it returns, and if not,
	// why.
	durable() (ok bool, reason string)
	// verify checks the whole database for damage.
	verify(ctx context.Context) error
	// server reports whether it is a server that several nodes write: rows are
	// locked when they are looked up, transactions are repeated when they are in
	// each other's way, statements end with the context of their call (and the
	// connection with them), and the bytes of a row are the driver's.
	server() bool
}

// A role is what a connection is used for.
type role int

const (
	roleWriter role = iota
	roleReader
	roleCheckpointer
)

func (r role) String() string { return [...]string{"writer", "reader", "checkpointer"}[r] }

// background is the context of all statements of SQLite: the context of a call
// ends its waiting and is asked between statements; it never interrupts one, so
// that a connection is never left in an unknown state.
var background = context.Background()

// A session is one connection with its prepared statements. It speaks the
// driver's interface directly: database/sql would cost some 2 µs for each
// statement, a tenth of a row. One goroutine uses it at a time.
type session struct {
	dialect dialect
	role    role
	conn    driver.Conn     // nil: broken, to be opened again
	ctx     context.Context // of statements, set for each user
	stmts   [statementCount]driver.Stmt
	mapped  map[tableStatement]driver.Stmt // for tables of mappings
	lastID  int64                          // of the last row inserted
	rules   ruleSet                        // what the rules table held when this session last looked
	tables  tableSet                       // the same of the mappings
	args    []driver.NamedValue
	row     []driver.Value
}

// A tableStatement is a statement on the table of a mapping.
type tableStatement struct {
	table string
	st    statement
}

// maxMapped is how many of them a connection keeps prepared: servers have a
// limit for all connections together. What is above begins anew.
const maxMapped = 128

// use prepares the session for a call: its statements run with the context that
// they shall have, on a connection that is there as far as one can tell.
func (s *session) use(ctx context.Context) error {
	s.ctx = background
	if s.dialect.server() {
		s.ctx = ctx
		if s.conn != nil && !alive(ctx, s.conn) {
			_ = s.close() // the server has gone: nothing can be done about it
		}
	}
	if s.conn != nil {
		return nil
	}
	s.rules.forget()
	s.tables.forget()
	conn, err := s.dialect.connect(ctx, s.role)
	if err != nil {
		return err
	}
	s.conn = conn
	return nil
}

// alive reports whether the connection is usable as far as this side knows.
func alive(ctx context.Context, conn driver.Conn) bool {
	if v, ok := conn.(driver.Validator); ok && !v.IsValid() {
		return false
	}
	r, ok := conn.(driver.SessionResetter)
	return !ok || r.ResetSession(ctx) == nil
}

// shrink gives up the pages that a connection to SQLite has cached.
func (s *session) shrink() error {
	if s.conn == nil {
		return nil
	}
	return execAll(s.conn, "PRAGMA shrink_memory")
}

// close ends the connection. A server forgets its statements with it.
func (s *session) close() error {
	var errs []error
	for i, st := range s.stmts {
		if st != nil && !s.dialect.server() {
			errs = append(errs, st.Close())
		}
		s.stmts[i] = nil
	}
	errs = append(errs, s.forgetMapped())
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	s.conn = nil
	return errors.Join(errs...)
}

func (s *session) prepared(table string, st statement) (driver.Stmt, error) {
	p := s.stmts[st]
	if table != baseTable {
		p = s.mapped[tableStatement{table, st}]
	}
	if p != nil {
		return p, nil
	}
	p, err := s.conn.(driver.ConnPrepareContext).PrepareContext(s.ctx, s.dialect.text(st, table))
	if err != nil {
		return nil, err
	}
	if table == baseTable {
		s.stmts[st] = p
		return p, nil
	}
	if len(s.mapped) >= maxMapped {
		_ = s.forgetMapped() // the connection says more with its next statement
	}
	if s.mapped == nil {
		s.mapped = make(map[tableStatement]driver.Stmt)
	}
	s.mapped[tableStatement{table, st}] = p
	return p, nil
}

// forgetMapped closes the statements on tables of mappings.
func (s *session) forgetMapped() error {
	var errs []error
	for key, p := range s.mapped {
		if s.conn != nil {
			errs = append(errs, p.Close())
		}
		delete(s.mapped, key)
	}
	return errors.Join(errs...)
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
	return s.execIn(baseTable, st, args...)
}

// execIn is exec with the table of a mapping.
func (s *session) execIn(table string, st statement, args ...driver.Value) (changed int64, err error) {
	result, err := s.run(table, st, args)
	s.unbind()
	if err != nil {
		return 0, s.fault("execute", st, err)
	}
	s.lastID, _ = result.LastInsertId() // known at once, cannot fail
	changed, _ = result.RowsAffected()
	return changed, nil
}

func (s *session) run(table string, st statement, args []driver.Value) (driver.Result, error) {
	named := s.bind(args)
	if !s.dialect.prepares(s.role, st) {
		result, err := s.conn.(driver.ExecerContext).ExecContext(s.ctx, s.dialect.text(st, table), named)
		if !errors.Is(err, driver.ErrSkip) {
			return result, err
		}
	}
	p, err := s.prepared(table, st)
	if err != nil {
		return nil, err
	}
	return p.(driver.StmtExecContext).ExecContext(s.ctx, named)
}

// query calls each for every row until it returns an error, which query
// returns, errStop as nil. The row is valid during the call only; the byte
// slices in it are each's to keep.
func (s *session) query(st statement, each func(row []driver.Value) error, args ...driver.Value) (err error) {
	return s.queryIn(baseTable, st, each, args...)
}

// queryIn is query with the table of a mapping.
func (s *session) queryIn(table string, st statement, each func(row []driver.Value) error, args ...driver.Value) (err error) {
	rows, err := s.ask(table, st, args)
	s.unbind()
	if err != nil {
		return s.fault("query", st, err)
	}
	err = s.walk(st, rows, each)
	if err == errFull && s.dialect.server() {
		_ = s.close() // or Close would fetch the rest of the answer
	}
	if cerr := rows.Close(); err == nil && cerr != nil {
		err = s.fault("close", st, cerr)
	}
	if err == errStop || err == errFull {
		return nil
	}
	return err
}

func (s *session) ask(table string, st statement, args []driver.Value) (driver.Rows, error) {
	named := s.bind(args)
	if !s.dialect.prepares(s.role, st) {
		rows, err := s.conn.(driver.QueryerContext).QueryContext(s.ctx, s.dialect.text(st, table), named)
		if !errors.Is(err, driver.ErrSkip) {
			return rows, err
		}
	}
	p, err := s.prepared(table, st)
	if err != nil {
		return nil, err
	}
	return p.(driver.StmtQueryContext).QueryContext(s.ctx, named)
}

func (s *session) walk(st statement, rows driver.Rows, each func(row []driver.Value) error) error {
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
			return s.fault("read rows of", st, err)
		}
		if s.dialect.server() {
			own(row)
		}
		if err := each(row); err != nil {
			return err
		}
	}
}

// own replaces the byte slices of row, which are the driver's, by copies in one
// piece of memory.
func own(row []driver.Value) {
	size := 0
	for _, v := range row {
		size += len(bytesOf(v))
	}
	all := make([]byte, 0, size)
	for i, v := range row {
		if b, ok := v.([]byte); ok {
			start := len(all)
			all = append(all, b...)
			row[i] = all[start:len(all):len(all)]
		}
	}
}

// fault words and classifies an error of the driver. A connection that it broke
// is given up.
func (s *session) fault(what string, st statement, err error) error {
	if s.dialect.server() {
		if v, ok := s.conn.(driver.Validator); ok && !v.IsValid() {
			_ = s.close() // broken
		}
		err = s.overdue(err)
	}
	return fmt.Errorf("%s %s: %w", what, st, s.dialect.classify(err))
}

// overdue tells the end of the call's context from an outage: who went away
// says nothing about the server, but a deadline ran out while it did not answer.
func (s *session) overdue(err error) error {
	switch s.ctx.Err() {
	case nil:
		return err
	case context.DeadlineExceeded:
		return fmt.Errorf("%w: no answer in time: %w", ErrUnavailable, context.Cause(s.ctx))
	}
	return context.Cause(s.ctx)
}

// rollback ends the transaction. After some errors, a full disk among them,
// SQLite has ended it by itself; then a new one can be begun. If neither is so
// the connection is given up and its next user opens it again; with it a server
// ends the transaction.
func (s *session) rollback() {
	if s.conn == nil {
		return
	}
	if s.ctx.Err() == nil && (s.try(stmtRollback) || !s.dialect.server() && s.try(stmtBeginRead) && s.try(stmtRollback)) {
		return
	}
	_ = s.close() // whatever it says, the connection is not used again
}

func (s *session) try(st statement) bool {
	if s.conn == nil {
		return false
	}
	_, err := s.exec(st)
	return err == nil
}

// intOf, bytesOf: the values of a row. NULL is zero or nil.
func intOf(v driver.Value) int64 {
	if n, unsigned := v.(uint64); unsigned {
		return int64(n)
	}
	n, _ := v.(int64)
	return n
}

func bytesOf(v driver.Value) []byte {
	switch v := v.(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return nil
}
