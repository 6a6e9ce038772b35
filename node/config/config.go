package config

// Config is a whole, checked configuration. [Load] makes it; nothing changes
// it afterwards, so it may be read from any goroutine.
//
// In the lines below "reloads" means that a running node takes a change up on
// SIGHUP or POST /reload; all other keys need a restart.
type Config struct {
	// DataDir is the directory of journal, SQLite database, snapshots and
	// identity. Relative to the working directory.
	DataDir string `toml:"data_dir" reload:"no"`
	// NodeName names the node in logs, Via and Cache-Status. Empty: the
	// machine's host name.
	NodeName string `toml:"node_name" reload:"no"`
	// SQLitePath is the database file. Empty: edgenode.sqlite in DataDir; see
	// [Config.Database]. Relative to the working directory.
	SQLitePath string `toml:"sqlite_path" reload:"no"`
	// SQLURL is the database of a MySQL or MariaDB server that takes the place of
	// SQLite: mysql://user@host:3306/database. Empty: SQLite. Without password.
	SQLURL string `toml:"sql_url" reload:"no" secret:"within"`
	// SQLPasswordFile holds the password of the user in SQLURL on one line.
	SQLPasswordFile string `toml:"sql_password_file" reload:"no"`
	// SQLPassword is what SQLPasswordFile holds.
	SQLPassword string `reload:"no" secret:"yes"`
	// SQLWriteConcurrency is the number of transactions at a time on a server.
	SQLWriteConcurrency int `toml:"sql_write_concurrency" reload:"no" range:"1..64"`
	// L3Shared says that other nodes write to the same L3, so that conditions
	// are decided there. Unless it is set: whether SQLURL is.
	L3Shared bool `toml:"l3_shared" reload:"no"`
	// SQLTimeout bounds one read of L3, SQLBatchTimeout one batch of writes, and
	// SQLWaitMax how long a write of durability l3 waits for its commit. Reload.
	SQLTimeout      Duration `toml:"sql_timeout" reload:"yes" range:"100ms..10m"`
	SQLBatchTimeout Duration `toml:"sql_batch_timeout" reload:"yes" range:"100ms..1h"`
	SQLWaitMax      Duration `toml:"sql_wait_max" reload:"yes" range:"100ms..1h"`
	// FollowInterval is the pause between two looks at what other nodes have
	// changed in L3. Reloads.
	FollowInterval Duration `toml:"follow_interval" reload:"yes" range:"10ms..1h"`

	// RedisURL is where L2 is; empty: there is none. Without password.
	RedisURL string `toml:"redis_url" reload:"no" secret:"within"`
	// RedisPasswordFile and RedisSentinelPasswordFile hold the passwords of Redis
	// and of its sentinels, each on one line.
	RedisPasswordFile         string `toml:"redis_password_file" reload:"no"`
	RedisSentinelPasswordFile string `toml:"redis_sentinel_password_file" reload:"no"`
	// RedisPassword and RedisSentinelPassword are what these files hold.
	RedisPassword         string `reload:"no" secret:"yes"`
	RedisSentinelPassword string `reload:"no" secret:"yes"`
	// RedisPrefix begins every key in Redis. Nodes with the same prefix and the
	// same L3 share what is there.
	RedisPrefix string `toml:"redis_prefix" reload:"no"`
	// RedisTimeout bounds each call of Redis. Reloads, but only up to its value
	// at the start.
	RedisTimeout Duration `toml:"redis_timeout" reload:"yes" range:"10ms..1m"`
	// L2MaxTTL is the longest life of a copy in Redis of an item with L3. Reloads.
	L2MaxTTL Duration `toml:"l2_max_ttl" reload:"yes" range:"1s..365d"`
	// RedisEvictionStart and RedisEvictionTarget are shares of Redis' maxmemory:
	// from the first on copies are evicted, down to the second. Reload.
	RedisEvictionStart  float64 `toml:"redis_eviction_start" reload:"yes" range:"0.01..1"`
	RedisEvictionTarget float64 `toml:"redis_eviction_target" reload:"yes" range:"0.01..1"`

	// CDCEnabled keeps a stream of changes in Redis, of about CDCMaxLen entries.
	CDCEnabled bool `toml:"cdc_enabled" reload:"no"`
	CDCMaxLen  int  `toml:"cdc_maxlen" reload:"no" range:"100..100000000"`
	// MerkleCalcEnabled lets this node calculate the tree of hashes in L3, if no
	// other node does.
	MerkleCalcEnabled bool `toml:"merkle_calc_enabled" reload:"no"`
	// MerkleCalcJitter is the greatest random part of the pause between two looks
	// at it, which is at least FollowInterval.
	MerkleCalcJitter Duration `toml:"merkle_calc_jitter" reload:"no" range:"1ms..1h"`
	// MerkleRedisMaxItems is the greatest number of items for which Redis keeps a copy
	// of the tree; 0 means none.
	MerkleRedisMaxItems int `toml:"merkle_redis_max_items" reload:"no" range:"0..100000000"`

	// L1Snapshot writes the memory tier to a file in DataDir at an orderly end, for
	// the next start.
	L1Snapshot bool `toml:"l1_snapshot" reload:"no"`

	// FilterEnabled keeps a filter of the ids in L3, so that an id that is not there
	// costs no read of SQL.
	FilterEnabled bool `toml:"filter_enabled" reload:"no"`
	// FilterSnapshotInterval and FilterSnapshotChanges say when its snapshot is
	// written: at this age, or after so many changes. Reload.
	FilterSnapshotInterval Duration `toml:"filter_snapshot_interval" reload:"yes" range:"1s..1d"`
	FilterSnapshotChanges  int      `toml:"filter_snapshot_changes" reload:"yes" range:"100..1000000000"`

	// FeedsMax is how many readers of the change feed are served at a time.
	FeedsMax int `toml:"feeds_max" reload:"no" range:"1..100000"`

	// LogLevel is the least level that is logged. Reloads.
	LogLevel string `toml:"log_level" reload:"yes" oneof:"debug info warn error"`
	// APIHosts are the hosts on which the items API answers: exact names,
	// "*.suffix" or "*". Empty: each host that no site claims. Reloads.
	APIHosts []string `toml:"api_hosts" reload:"yes"`

	// Durability is the level of a write that asks for none. Reloads.
	Durability string `toml:"durability" reload:"yes" oneof:"memory journal sync l3"`
	// L1MaxBytes is the budget of the memory tier, all of it accounted: slabs,
	// index, ghosts, pending. Reloads.
	L1MaxBytes Size `toml:"l1_max_bytes" reload:"yes" range:"16MiB..16TiB"`
	// MaxPayloadBytes is the largest content of an item and the largest
	// request body. Unless it is set, it is no more than InflightMaxBytes and a
	// eighth of JournalMaxBytes.
	MaxPayloadBytes Size `toml:"max_payload_bytes" reload:"no" range:"1KiB..1GiB"`
	// InflightMaxBytes bounds what request bodies and answers of origins hold
	// in memory together while they are under way, before L1 has them. Above
	// it bodies are refused with 503 and answers are not stored.
	InflightMaxBytes Size `toml:"inflight_max_bytes" reload:"no" range:"1MiB..1TiB"`
	// Eviction is the policy of L1.
	Eviction string `toml:"eviction" reload:"no" oneof:"auto objects bytes tan lru"`

	// BatchFlush is the longest that an acknowledged write waits for L3 while
	// L3 is well. A bare integer of milliseconds. Reloads.
	BatchFlush Millis `toml:"batch_flush_ms" reload:"yes" range:"1..60000"`
	// BatchFlushCount is the number of items at which a batch is flushed. Reloads.
	BatchFlushCount int `toml:"batch_flush_count" reload:"yes" range:"1..100000"`
	// BatchFlushBytes is the size at which a batch is flushed. Reloads.
	BatchFlushBytes Size `toml:"batch_flush_bytes" reload:"yes" range:"1KiB..1GiB"`
	// JournalMaxBytes is the quota of the journal, dead letters included.
	JournalMaxBytes Size `toml:"journal_max_bytes" reload:"no" range:"16MiB..16TiB"`
	// DeadLetterTries is how often L3 may refuse a row before it goes to the
	// dead letters. Reloads.
	DeadLetterTries int `toml:"dead_letter_tries" reload:"yes" range:"1..1000"`
	// SQLiteWALMax is the size of SQLite's write-ahead log above which a
	// checkpoint restarts it between two batches.
	SQLiteWALMax Size `toml:"sqlite_wal_max" reload:"no" range:"1MiB..1TiB"`

	// TombstoneRetention is the least time for which a delete is remembered. Reloads.
	TombstoneRetention Duration `toml:"tombstone_retention" reload:"yes" range:"1m..365d"`
	// MaxLifetime caps the lifetime granted to an answer of an origin.
	MaxLifetime Duration `toml:"max_lifetime" reload:"no" range:"1m..3650d"`
	// ClockSkewMax is how far ahead of our clock a version may be.
	ClockSkewMax Duration `toml:"clock_skew_max" reload:"no" range:"1s..1h"`
	// ExpirySweep is the pause between two sweeps for expired rows. Reads never
	// see an expired item, whatever it is.
	ExpirySweep Duration `toml:"expiry_sweep" reload:"yes" range:"100ms..1h"`

	// HooksTrustedKeys are the keys whose signatures of modules count: each an id
	// and the Ed25519 public key in base64, with a space between them.
	HooksTrustedKeys []string `toml:"hooks_trusted_keys" reload:"no"`
	// RequireSigned refuses modules without a valid signature. With any trusted
	// key it is so whatever it says.
	RequireSigned bool `toml:"require_signed" reload:"no"`
	// HooksUnsignedUpload lets modules be uploaded without a signature, unless
	// signatures are required. Reloads.
	HooksUnsignedUpload bool `toml:"hooks_unsigned_upload" reload:"yes"`
	// HooksCacheDir keeps compiled modules, as native code. Empty: nowhere.
	// Relative to the working directory.
	HooksCacheDir string `toml:"hooks_cache_dir" reload:"no"`
	// HooksMaxModuleBytes bounds a module's file.
	HooksMaxModuleBytes Size `toml:"hooks_max_module_bytes" reload:"no" range:"1KiB..15MiB"`
	// HooksLoadTimeout bounds a load of the hooks.
	HooksLoadTimeout Duration `toml:"hooks_load_timeout" reload:"no" range:"1s..1h"`

	// Pressure are the thresholds at which writes are shed.
	Pressure Pressure `toml:"pressure"`
	// Listen are the two listeners.
	Listen Listen `toml:"listen"`
	// AccessLog is the log of requests.
	AccessLog AccessLog `toml:"access_log"`
	// Replica is whose items this node keeps, if it is not alone.
	Replica Replica `toml:"replica"`

	// L3Tables give prefixes of ids tables of their own in SQL.
	L3Tables []L3Table `toml:"l3_table" reload:"no"`
	// Namespaces are prefixes of ids with a weight or a budget in memory. Reloads.
	Namespaces []Namespace `toml:"namespace" reload:"yes"`
	// Pools are groups of origins. Reloads.
	Pools []Pool `toml:"pool" reload:"yes"`
	// Sites are what the node caches. Reloads.
	Sites []Site `toml:"site" reload:"yes"`
	// Hooks are WASM modules, in the order of the chain. Reloads.
	Hooks []Hook `toml:"hook" reload:"yes"`
	// Tokens open the items API and the admin listener. Reloads.
	Tokens []Token `toml:"token" reload:"yes"`
}

// L3Table is the table of the items whose ids begin with a prefix. It is stored in
// the database, for all nodes, and stays when the entry is removed here.
type L3Table struct {
	// Prefix begins the ids, 1 to 512 bytes; of two prefixes the longer wins.
	Prefix string `toml:"prefix" reload:"no"`
	// Table is its name, 1 to 48 of a-z 0-9 _. Empty: the items go back to where
	// they were.
	Table string `toml:"table" reload:"no"`
}

// Pressure holds the thresholds of the levels, as shares of the memory budget
// and of the journal's quota; the greater counts. Each is above 0, at most 1
// and above the one before. They reload.
type Pressure struct {
	Warn      float64 `toml:"warn" reload:"yes" range:"0.01..1"`      // metric, larger eviction quantum
	Throttle  float64 `toml:"throttle" reload:"yes" range:"0.01..1"`  // puts 429, more of them towards critical
	Critical  float64 `toml:"critical" reload:"yes" range:"0.01..1"`  // puts 503
	Emergency float64 `toml:"emergency" reload:"yes" range:"0.01..1"` // no promotion, no fill into L1
	Shutdown  float64 `toml:"shutdown" reload:"yes" range:"0.01..1"`  // state and tag changes refused
}

// Replica says which other node, the hub, this node follows.
type Replica struct {
	// From is the base URL of the hub's data listener; empty: none.
	From string `toml:"from" reload:"no"`
	// Prefixes are the replicated ids, each ending in . / or : ; empty: all.
	Prefixes []string `toml:"prefixes" reload:"no"`
	// TokenFile holds this node's token at the hub on one line.
	TokenFile string `toml:"token_file" reload:"no"`
	// Token is what TokenFile holds.
	Token string `reload:"no" secret:"yes"`
	// Writes says what becomes of writes of replicated ids here.
	Writes string `toml:"writes" reload:"no" oneof:"forward refuse"`
	// PartitionGrace is for how long the hub may be away before OnPartition holds.
	PartitionGrace Duration `toml:"partition_grace" reload:"no" range:"1s..365d"`
	// OnPartition says what becomes of reads of replicated ids then.
	OnPartition string `toml:"on_partition" reload:"no" oneof:"stale refuse"`
	// TLS is how an https hub is known.
	TLS ReplicaTLS `toml:"tls"`
}

// ReplicaTLS names the files of connections to an https hub, PEM, read at the
// start. Relative to the configuration's folder.
type ReplicaTLS struct {
	ServerName string `toml:"server_name" reload:"no"` // SNI and verified name; empty: that of From
	CA         string `toml:"ca" reload:"no"`          // the only authorities believed; empty: the system's
	Cert       string `toml:"cert" reload:"no"`        // shown to the hub
	Key        string `toml:"key" reload:"no"`         // its private key, not readable by others
}

// AccessLog says where requests of the data listener are recorded, as one JSON
// object per line.
type AccessLog struct {
	// Path is the file; "-" is standard output, empty is none. Relative to the
	// configuration's folder. Opened anew on SIGHUP, SIGUSR1 and each reload.
	Path string `toml:"path" reload:"yes"`
	// Sample is the share of the requests; answers of 500 and above are always
	// recorded.
	Sample float64 `toml:"sample" reload:"yes" range:"0..1"`
}

// Listen holds the two listeners.
type Listen struct {
	Data  Listener `toml:"data"`  // sites and the items API
	Admin Listener `toml:"admin"` // health, metrics, hooks, configuration, profiles
}

// Listener is one address with its limits. A client that exceeds one costs only
// itself.
type Listener struct {
	// Address is host:port; an empty host means every interface, port 0 one
	// that is free.
	Address string `toml:"address" reload:"no"`
	// HeaderTimeout is the time for a whole request header.
	HeaderTimeout Duration `toml:"header_timeout" reload:"no" range:"100ms..10m"`
	// MaxHeaderBytes bounds the header block; above it 431.
	MaxHeaderBytes Size `toml:"max_header_bytes" reload:"no" range:"1KiB..1MiB"`
	// MaxURLBytes bounds the request target; above it 414.
	MaxURLBytes Size `toml:"max_url_bytes" reload:"no" range:"256B..64KiB"`
	// MinBodyRate is the least average rate of a body, per second; 0B is none.
	MinBodyRate Size `toml:"min_body_rate" reload:"no" range:"0B..1GiB"`
	// IdleTimeout is the longest pause between two requests.
	IdleTimeout Duration `toml:"idle_timeout" reload:"no" range:"100ms..1h"`
	// MaxConnections bounds the open connections.
	MaxConnections int `toml:"max_connections" reload:"no" range:"1..1000000"`
	// MaxConnectionsPerAddress bounds those of one client address. Unless it is
	// set, it is no more than MaxConnections.
	MaxConnectionsPerAddress int `toml:"max_connections_per_address" reload:"no" range:"1..1000000"`
	// MaxRequestsPerConnection closes a connection after that many; 0 is never.
	MaxRequestsPerConnection int `toml:"max_requests_per_connection" reload:"no" range:"0..1000000000"`
	// TrustedProxies are the networks (CIDR, or single addresses) whose
	// Forwarded and X-Forwarded-For fields are believed. Reloads.
	TrustedProxies []string `toml:"trusted_proxies" reload:"yes"`
	// ProxyProtocol says whether TrustedProxies begin connections with a header of
	// the PROXY protocol.
	ProxyProtocol string `toml:"proxy_protocol" reload:"no" oneof:"off v1v2"`
	// DrainDelay is how long new connections are still accepted after the node
	// said that it is not ready any more. Reloads.
	DrainDelay Duration `toml:"drain_delay" reload:"yes" range:"0s..10m"`
	// ShutdownTimeout is the time for requests under way before they are cut.
	// Reloads.
	ShutdownTimeout Duration `toml:"shutdown_timeout" reload:"yes" range:"0s..10m"`
	// TLS, when Cert is set, makes the listener speak TLS only.
	TLS TLS `toml:"tls"`
}

// TLS names the files of a listener, PEM. The files are read again when they
// change; other names need a restart. Relative to the configuration's folder.
type TLS struct {
	Cert     string `toml:"cert" reload:"no"`      // chain, leaf first
	Key      string `toml:"key" reload:"no"`       // private key, not readable by others
	ClientCA string `toml:"client_ca" reload:"no"` // clients must show a certificate signed by one of these
}

// Enabled reports whether the listener speaks TLS.
func (t TLS) Enabled() bool { return t.Cert != "" }
