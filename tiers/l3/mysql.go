package l3

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/go-sql-driver/mysql"
)

const (
	lockTimeout = 3 * time.Second // waiting for a row that another transaction holds
	ddlTimeout  = 10 * time.Second
	// idleTimeout is after how long without a word the server ends a connection,
	// and the transaction that a node left when it lost its power.
	idleTimeout = 60 * time.Second
	// packetSlack is what a row takes in a packet beside its record.
	packetSlack = 4 << 10
	// headSlack is how much of a packet is left for what an item has beside its
	// content, in the figure that MaxPayload gives.
	headSlack = 64 << 10
	// maxTagMySQL is the greatest tag: an index has 3,072 bytes for tag and key.
	maxTagMySQL = 2000
)

// mysqlDialect keeps a database of a MySQL or MariaDB server.
type mysqlDialect struct {
	title string // without secrets
	plain *mysql.Config
	links driver.Connector
	texts [statementCount]string
	more  sync.Map // tableStatement to string: texts for mappings
	info  atomic.Pointer[serverInfo]
	steps []migration
	log   func(msg string, args ...any) // at level warn
}

// serverInfo is what the connection opened last found out.
type serverInfo struct {
	maxPacket int64
	risk      string // why a commit may be lost, "" if it may not
}

func newMySQL(o *Options) (*mysqlDialect, error) {
	c, title, err := mysqlConfig(o)
	if err != nil {
		return nil, err
	}
	links, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("l3: URL of the SQL server: %w", err)
	}
	d := &mysqlDialect{title: title, plain: c, links: links, steps: mysqlMigrations, log: o.Logger.Warn}
	for st := range d.texts {
		d.texts[st] = mysqlText(statement(st), mysqlNames)
	}
	return d, nil
}

func (d *mysqlDialect) name() string { return d.title }
func (d *mysqlDialect) server() bool { return true }

func (d *mysqlDialect) text(st statement, table string) string {
	if table == baseTable {
		return d.texts[st]
	}
	key := tableStatement{table, st}
	if text, known := d.more.Load(key); known {
		return text.(string)
	}
	text := mysqlText(st, tables(mysqlPrefix, table))
	d.more.Store(key, text)
	return text
}

// prepares says that writers, whose statements are big and come again and again,
// keep them prepared, and so do readers the look-ups of one key, the most frequent
// statements. Other reads have their values written into their text.
func (d *mysqlDialect) prepares(r role, st statement) bool {
	return st == stmtGetRow || st == stmtGet || r == roleWriter && st > stmtGet
}

// rows: rows with contents are long, others short.
func (d *mysqlDialect) rows(first statement) int {
	if first == stmtPutIn || first == stmtPutOverIn {
		return 100
	}
	return maxWidth
}

func (d *mysqlDialect) fits(record item.View) error {
	for t := range record.Tags {
		if len(t) > maxTagMySQL {
			return fmt.Errorf("%w: tag of %d bytes, allowed are %d on this server", item.ErrTooLarge, len(t), maxTagMySQL)
		}
	}
	if info := d.info.Load(); info != nil && int64(len(record)) > info.maxPacket-packetSlack {
		return fmt.Errorf("%w: item of %d bytes, the server's max_allowed_packet is %d; raise it there", item.ErrTooLarge, len(record), info.maxPacket)
	}
	return nil
}

func (d *mysqlDialect) maxPayload() int64 {
	info := d.info.Load()
	if info == nil {
		return 0
	}
	return max(1, info.maxPacket-packetSlack-headSlack)
}

func (d *mysqlDialect) durable() (ok bool, reason string) {
	info := d.info.Load()
	if info == nil {
		return false, "there was no connection to the SQL server yet, so its settings are not known"
	}
	return info.risk == "", info.risk
}

// mysqlSettings are those of a session: what is set, by which name it is read
// back, and its value. MySQL and MariaDB call some differently.
func mysqlSettings(r role) (statements []string, want []setting) {
	access, readOnly := "READ WRITE", "off"
	if r == roleReader {
		access, readOnly = "READ ONLY", "on"
	}
	set := []setting{
		{"autocommit", "1"},
		{"sql_mode", "'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"},
		{"time_zone", "'+00:00'"},
		{"innodb_lock_wait_timeout", seconds(lockTimeout)},
		{"lock_wait_timeout", seconds(ddlTimeout)},
		{"wait_timeout", seconds(idleTimeout)},
		{"sql_select_limit", "18446744073709551615"},
	}
	var parts []string
	for _, s := range set {
		parts = append(parts, "SESSION "+s.name+"="+s.value)
		want = append(want, setting{s.name, strings.Trim(s.value, "'")})
	}
	want[0].value = "on"
	want[1].value = sortedModes(want[1].value)
	for _, name := range []string{"character_set_client", "character_set_connection", "character_set_results"} {
		want = append(want, setting{name, "binary"})
	}
	want = append(want, setting{"transaction_isolation", "read-committed"}, setting{"transaction_read_only", readOnly})
	return []string{
		"SET NAMES binary",
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, " + access,
		"SET " + strings.Join(parts, ", "),
	}, want
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// sortedModes makes lists of modes comparable: servers give them in an order of
// their own.
func sortedModes(list string) string {
	modes := strings.Split(strings.ToLower(list), ",")
	slices.Sort(modes)
	return strings.Join(modes, ",")
}

// connect opens a connection, makes its settings and reads each back, with those
// of the server that matter.
func (d *mysqlDialect) connect(ctx context.Context, r role) (driver.Conn, error) {
	conn, err := d.links.Connect(ctx)
	if err != nil {
		return nil, d.openFault(ctx, err)
	}
	if err := d.set(ctx, conn, r); err != nil {
		return nil, errors.Join(d.openFault(ctx, err), conn.Close())
	}
	return conn, nil
}

func (d *mysqlDialect) set(ctx context.Context, conn driver.Conn, r role) error {
	statements, want := mysqlSettings(r)
	for _, text := range statements {
		if _, err := conn.(driver.ExecerContext).ExecContext(ctx, text, nil); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	got, err := d.variables(ctx, conn)
	if err != nil {
		return err
	}
	for _, s := range want {
		if got[s.name] != s.value {
			return fmt.Errorf("%w: %s reads back as %s, want %s, on a %s connection to %s", ErrSetting, s.name, got[s.name], s.value, r, d.title)
		}
	}
	return d.learn(got)
}

// mysqlVariables are all that is read: settings, and what the server has.
const mysqlVariables = `SHOW SESSION VARIABLES WHERE Variable_name IN ('autocommit','sql_mode','time_zone','innodb_lock_wait_timeout',
	'lock_wait_timeout','wait_timeout','sql_select_limit','character_set_client','character_set_connection','character_set_results',
	'tx_isolation','transaction_isolation','tx_read_only','transaction_read_only','max_allowed_packet',
	'innodb_flush_log_at_trx_commit','sync_binlog','log_bin','version')`

// variables reads them back, under MySQL's names and in lower case.
func (d *mysqlDialect) variables(ctx context.Context, conn driver.Conn) (map[string]string, error) {
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, mysqlVariables, nil)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	got := make(map[string]string)
	row := make([]driver.Value, len(rows.Columns()))
	for err = rows.Next(row); err == nil; err = rows.Next(row) {
		name := strings.ToLower(string(bytesOf(row[0])))
		if short, old := strings.CutPrefix(name, "tx_"); old {
			name = "transaction_" + short
		}
		got[name] = strings.ToLower(string(bytesOf(row[1])))
	}
	got["sql_mode"] = sortedModes(got["sql_mode"])
	return got, errors.Join(ignoreEOF(err), rows.Close())
}

func (d *mysqlDialect) readSettings(conn driver.Conn, _ role) (map[string]string, error) {
	return d.variables(context.Background(), conn)
}

// learn takes over what the server has, and warns when it is other than before.
func (d *mysqlDialect) learn(got map[string]string) error {
	packet, err := strconv.ParseInt(got["max_allowed_packet"], 10, 64)
	if err != nil {
		return fmt.Errorf("%w: max_allowed_packet of %s reads as %q", ErrSetting, d.title, got["max_allowed_packet"])
	}
	next := &serverInfo{maxPacket: packet, risk: commitRisk(got)}
	if before := d.info.Swap(next); (before == nil || before.risk != next.risk) && next.risk != "" {
		d.log("the SQL server may lose commits at a power loss", "server", d.title, "reason", next.risk)
	}
	return nil
}

// commitRisk says by which settings a commit may be lost. 3 syncs at each commit
// too (MariaDB); with a binary log the commit is what that log says.
func commitRisk(got map[string]string) string {
	if v := got["innodb_flush_log_at_trx_commit"]; v != "1" && v != "3" {
		return "innodb_flush_log_at_trx_commit of the SQL server is " + v + ", set it to 1"
	}
	if got["log_bin"] == "on" && got["sync_binlog"] != "1" {
		return "sync_binlog of the SQL server is " + got["sync_binlog"] + ", set it to 1"
	}
	return ""
}

// verify has the server check every table, on a connection that may wait.
func (d *mysqlDialect) verify(ctx context.Context) (err error) {
	c := d.plain.Clone()
	c.ReadTimeout = 0
	links, err := mysql.NewConnector(c)
	if err != nil {
		return err
	}
	conn, err := links.Connect(ctx)
	if err != nil {
		return d.openFault(ctx, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	text := mysqlNames.Replace("CHECK TABLE {meta}, {items}, {tombstones}, {tags}, {changes}, {rules}, {nodes}, {leases}, {mappings}, {merkle}")
	mapped, err := d.mappedTables(ctx, conn)
	if err != nil {
		return d.openFault(ctx, err)
	}
	for _, name := range mapped {
		text += ", " + d.tableName(name)
	}
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, text, nil)
	if err != nil {
		return d.openFault(ctx, err)
	}
	findings := make(map[string]string)
	row := make([]driver.Value, len(rows.Columns()))
	for err = rows.Next(row); err == nil; err = rows.Next(row) {
		if kind, said := string(bytesOf(row[2])), string(bytesOf(row[3])); kind == "error" || kind == "status" && said != "OK" {
			findings[string(bytesOf(row[0]))] = said
		}
	}
	if err = errors.Join(rows.Close(), ignoreEOF(err)); err != nil {
		return d.openFault(ctx, err)
	}
	if len(findings) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %v says %v; restore the database from a copy", ErrCorrupt, slices.Sorted(maps.Keys(findings)), findings)
}

// mappedTables returns the tables of all mappings that there ever were.
func (d *mysqlDialect) mappedTables(ctx context.Context, conn driver.Conn) (list []string, err error) {
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, d.text(stmtMappings, baseTable), nil)
	if err != nil {
		return nil, err
	}
	row := make([]driver.Value, len(rows.Columns()))
	for err = rows.Next(row); err == nil; err = rows.Next(row) {
		list = append(list, string(bytesOf(row[0])))
	}
	return list, errors.Join(rows.Close(), ignoreEOF(err))
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
