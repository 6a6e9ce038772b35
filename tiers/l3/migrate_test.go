package l3

import (
	"database/sql/driver"
	"errors"
	"path/filepath"
	"testing"
)

// A database is brought to the next schema once, and a step that fails
// leaves it as it was.
func TestMigrate(t *testing.T) {
	d, err := newSQLite(filepath.Join(t.TempDir(), "l3.db"), DefaultWALMax)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.migrate(sqliteMigrations); err != nil {
		t.Fatal(err)
	}
	conn, err := d.connect(background, roleWriter)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	step := func(sql string) []migration {
		return append(sqliteMigrations[:5:5], migration{version: 6, minBinary: 1, needs: "edgenode next", sql: sql})
	}
	err = migrate(conn, "path", step("ALTER TABLE items ADD COLUMN extra TEXT; INSERT INTO nowhere VALUES (1);"))
	if err == nil {
		t.Fatal("a wrong step succeeds")
	}
	wantSchema(t, conn, 5)
	if _, err := queryRow(conn, "SELECT extra FROM items"); err == nil {
		t.Error("a half step is there")
	}
	for range 2 { // the second time nothing is left to do
		if err := migrate(conn, "path", step("ALTER TABLE items ADD COLUMN extra TEXT;")); err != nil {
			t.Fatal(err)
		}
		wantSchema(t, conn, 6)
	}
	if err := d.migrate(sqliteMigrations); err != nil {
		t.Errorf("the older binary, which may use it: %v", err)
	}
	if err := execAll(conn, "UPDATE schema_info SET min_binary = 6"); err != nil {
		t.Fatal(err)
	}
	if err := d.migrate(sqliteMigrations); !errors.Is(err, ErrNewer) {
		t.Errorf("the older binary, which may not: %v", err)
	}
}

func wantSchema(t *testing.T, conn driver.Conn, want int64) {
	t.Helper()
	if got, err := queryInt(conn, "SELECT version FROM schema_info"); err != nil || got != want {
		t.Errorf("schema %d, %v, want %d", got, err, want)
	}
}

// A connection that does not keep a setting is refused.
func TestSettingNotKept(t *testing.T) {
	d, err := newSQLite(filepath.Join(t.TempDir(), "l3.db"), DefaultWALMax)
	if err != nil {
		t.Fatal(err)
	}
	d.path = "" // a temporary database cannot be in WAL mode
	if _, err := d.connect(background, roleWriter); !errors.Is(err, ErrSetting) {
		t.Errorf("got %v", err)
	}
}
