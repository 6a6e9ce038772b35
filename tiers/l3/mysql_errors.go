package l3

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/go-sql-driver/mysql"
)

// classify adds errAgain, ErrUnavailable, ErrCorrupt or ErrRejected by the
// server's number, or ErrUnavailable if the connection failed.
func (d *mysqlDialect) classify(err error) error {
	marker := mysqlMarker(err)
	if marker == nil || errors.Is(err, marker) {
		return err
	}
	return fmt.Errorf("%w: %w", marker, err)
}

func mysqlMarker(err error) error {
	var said *mysql.MySQLError
	var network net.Error
	switch {
	case errors.As(err, &said):
		return mysqlMarkerOf(said.Number)
	case errors.Is(err, context.Canceled):
		return nil
	case errors.As(err, &network), errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, mysql.ErrMalformPkt), errors.Is(err, mysql.ErrPktSync),
		errors.Is(err, mysql.ErrPktSyncMul), errors.Is(err, mysql.ErrBusyBuffer):
		return ErrUnavailable
	}
	return nil
}

// mysqlMarkerOf knows what a number means. Those it does not know are outages:
// the batch is kept and tried again.
func mysqlMarkerOf(number uint16) error {
	switch number {
	case 1213, // deadlock
		1205, // waited too long for a row
		1020, // a row has changed since it was read
		1062: // a row has appeared
		return errAgain
	case 126, 127, 1034, 1035, 1194, 1195, 1712, 1932, // damaged tables or indexes
		1146, 1054: // a table or column is gone
		return ErrCorrupt
	case 1048, 1118, 1139, 1153, 1264, 1301, 1366, 1406, 3140, 4025: // a value that no column takes
		return ErrRejected
	}
	return ErrUnavailable
}

// openFault words what may go wrong when the server is first spoken to.
func (d *mysqlDialect) openFault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("no connection to %s in time: %w", d.title, context.Cause(ctx))
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return err
	}
	var said *mysql.MySQLError
	if !errors.As(err, &said) {
		if errors.Is(err, ErrSetting) || errors.Is(err, ErrNewer) {
			return err
		}
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, d.title, err) // the network, TLS, the handshake
	}
	switch said.Number {
	case 1044, 1045, 1698:
		return fmt.Errorf("%w: %s refuses the login; correct user, password or rights: %w", ErrUnavailable, d.title, err)
	case 1049:
		return fmt.Errorf("%w: %s does not exist; create it with CREATE DATABASE: %w", ErrUnavailable, d.title, err)
	case 1142:
		return fmt.Errorf("%w: the user lacks a right on %s; grant ALL on the database: %w", ErrUnavailable, d.title, err)
	}
	return d.classify(err)
}
