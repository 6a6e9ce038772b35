package l3

import (
	"context"
	"strconv"

	"modernc.org/sqlite"
)

// SetMaxPages limits the file to so many pages beyond what it has, as a full
// disk would; 0 lifts the limit.
func SetMaxPages(s *Store, more int64) error {
	ses, err := s.writers.acquire(context.Background())
	if err != nil {
		return err
	}
	defer s.writers.release(ses)
	if more == 0 {
		return execAll(ses.conn, "PRAGMA max_page_count = 4294967294")
	}
	have, err := queryInt(ses.conn, "PRAGMA page_count")
	if err != nil {
		return err
	}
	_, err = queryRow(ses.conn, "PRAGMA max_page_count = "+strconv.FormatInt(have+more, 10))
	return err
}

// BreakWriter closes the writer's connection behind the store's back.
func BreakWriter(s *Store) error {
	ses, err := s.writers.acquire(context.Background())
	if err != nil {
		return err
	}
	defer s.writers.release(ses)
	return ses.close()
}

// WALBytes is what the store knows of the write-ahead log.
func WALBytes(s *Store) int64 { return s.wal.bytes.Load() }

// Exec runs SQL on the writer's connection.
func Exec(s *Store, text string) error {
	ses, err := s.writers.acquire(context.Background())
	if err != nil {
		return err
	}
	defer s.writers.release(ses)
	return execAll(ses.conn, text)
}

// IdleAfter is how long after a commit caches of pages are given up.
const IdleAfter = idleAfter

// CachedBytes is what the writer's connection has cached.
func CachedBytes(s *Store) (int, error) {
	ses, err := s.writers.acquire(context.Background())
	if err != nil {
		return 0, err
	}
	defer s.writers.release(ses)
	cached, _, err := ses.conn.(sqlite.DBStatus).Status(sqlite.DBStatusCacheUsed, false)
	return cached, err
}
