package config

import "time"

// Defaults of the keys at the top of the file.
const (
	DefaultDataDir            = "./edgenode-data"
	DefaultDurability         = "sync"
	DefaultLogLevel           = "info"
	DefaultL1MaxBytes         = 256 * MiB
	DefaultMaxPayloadBytes    = 16 * MiB
	DefaultInflightMaxBytes   = 128 * MiB
	DefaultEviction           = "auto"
	DefaultBatchFlush         = Millis(100 * time.Millisecond)
	DefaultBatchFlushCount    = 1000
	DefaultBatchFlushBytes    = 1 * MiB
	DefaultJournalMaxBytes    = 1 * GiB
	DefaultDeadLetterTries    = 5
	DefaultSQLiteWALMax       = 64 * MiB
	DefaultTombstoneRetention = Duration(24 * time.Hour)
	DefaultMaxLifetime        = Duration(30 * 24 * time.Hour)
	DefaultClockSkewMax       = Duration(60 * time.Second)
	DefaultExpirySweep        = Duration(10 * time.Second)
	DefaultAccessSample       = 1.0

	DefaultSQLWriteConcurrency = 4
	DefaultSQLTimeout          = Duration(5 * time.Second)
	DefaultSQLBatchTimeout     = Duration(30 * time.Second)
	DefaultSQLWaitMax          = Duration(30 * time.Second)
	DefaultFollowInterval      = Duration(time.Second)
	DefaultCDCMaxLen           = 100_000
	DefaultFeedsMax            = 256
	DefaultMerkleCalcEnabled   = true
	DefaultMerkleCalcJitter    = Duration(time.Second)
	DefaultMerkleRedisMaxItems = 1_000_000

	DefaultFilterEnabled          = true
	DefaultFilterSnapshotInterval = Duration(30 * time.Second)
	DefaultFilterSnapshotChanges  = 10_000

	DefaultRedisPrefix         = "edgenode:"
	DefaultRedisTimeout        = Duration(5 * time.Second)
	DefaultL2MaxTTL            = Duration(time.Hour)
	DefaultRedisEvictionStart  = 0.75
	DefaultRedisEvictionTarget = 0.60
)

// Defaults of a replica.
const (
	DefaultReplicaWrites  = "forward"
	DefaultPartitionGrace = Duration(time.Minute)
	DefaultOnPartition    = "stale"
)

// Default pressure thresholds, as shares of the budget or quota.
const (
	DefaultPressureWarn      = 0.70
	DefaultPressureThrottle  = 0.80
	DefaultPressureCritical  = 0.90
	DefaultPressureEmergency = 0.95
	DefaultPressureShutdown  = 0.98
)

// Defaults of a listener.
const (
	DefaultDataAddress              = ":8080"
	DefaultAdminAddress             = "127.0.0.1:8081"
	DefaultHeaderTimeout            = Duration(10 * time.Second)
	DefaultMaxHeaderBytes           = 32 * KiB
	DefaultMaxURLBytes              = 8 * KiB
	DefaultMinBodyRate              = 1 * KiB
	DefaultIdleTimeout              = Duration(60 * time.Second)
	DefaultMaxConnections           = 10_000
	DefaultAdminMaxConnections      = 100
	DefaultMaxConnectionsPerAddress = 1_000
	DefaultMaxRequestsPerConnection = 100_000
	DefaultProxyProtocol            = "off"
	DefaultDrainDelay               = Duration(0)
	DefaultShutdownTimeout          = Duration(30 * time.Second)
)

// Defaults of a pool.
const (
	DefaultBalance            = "round-robin"
	DefaultPoolHost           = "client"
	DefaultConnectTimeout     = Duration(2 * time.Second)
	DefaultFirstByteTimeout   = Duration(30 * time.Second)
	DefaultPoolIdleTimeout    = Duration(55 * time.Second)
	DefaultPoolMaxConnections = 256
	DefaultRetryPercent       = 10
	DefaultRetryBurst         = 10
	DefaultMaxFailures        = 3
	DefaultRest               = Duration(2 * time.Second)
	DefaultRestMax            = Duration(time.Minute)
	DefaultHealthInterval     = Duration(5 * time.Second)
	DefaultHealthTimeout      = Duration(time.Second)
	DefaultHealthy            = 2
	DefaultUnhealthy          = 3
)

// Defaults of a site.
const (
	DefaultPathPrefix     = "/"
	DefaultWeight         = 1.0 // of namespaces too
	DefaultSetCookie      = "strict"
	DefaultCacheStatus    = "full"
	DefaultMaxObjectBytes = 16 * MiB
	DefaultChunkBytes     = MiB
	DefaultFinishFill     = MiB
	DefaultStaleOnError   = Duration(time.Hour)
	DefaultKeep           = Duration(24 * time.Hour)
	DefaultVariantsMax    = 64
	DefaultWaitersMax     = 50_000
	DefaultUpgradesMax    = 1000
	DefaultHTTPSPort      = 443
	DefaultUpgradesIdle   = Duration(10 * time.Minute)
)

// Defaults of a site: the tenth that RFC 9111 §4.2.2 names, and its bound.
const (
	DefaultHeuristicFraction = 0.1
	DefaultHeuristicMax      = Duration(24 * time.Hour)
)

// Defaults of a hook. Fuel is counted in units of the metering: about one per
// wasm instruction, bulk memory operations by size.
const (
	DefaultFuelRoute     = 20_000
	DefaultFuelTTL       = 20_000
	DefaultFuelEvict     = 200_000
	DefaultFuelAdmit     = 20_000
	DefaultFuelInit      = 100_000_000
	DefaultHookInstances = 8
	DefaultRecycleCalls  = 1_000_000
)

// Defaults of loading hooks.
const (
	DefaultHooksMaxModuleBytes = 8 * MiB
	DefaultHooksLoadTimeout    = Duration(time.Minute)
)

// Memory limits of a hook whose key memory is 0.
const (
	HookMemory     = 4 * MiB  // a module without WASI
	HookMemoryWASI = 16 * MiB // a module that asks for WASI, as Go guests do
)

// Default returns the configuration of a node without file and environment: it
// serves the items API on the data listener, with no sites, hooks or tokens.
func Default() *Config {
	return &Config{
		DataDir:            DefaultDataDir,
		LogLevel:           DefaultLogLevel,
		Durability:         DefaultDurability,
		L1MaxBytes:         DefaultL1MaxBytes,
		MaxPayloadBytes:    DefaultMaxPayloadBytes,
		InflightMaxBytes:   DefaultInflightMaxBytes,
		Eviction:           DefaultEviction,
		BatchFlush:         DefaultBatchFlush,
		BatchFlushCount:    DefaultBatchFlushCount,
		BatchFlushBytes:    DefaultBatchFlushBytes,
		JournalMaxBytes:    DefaultJournalMaxBytes,
		DeadLetterTries:    DefaultDeadLetterTries,
		SQLiteWALMax:       DefaultSQLiteWALMax,
		TombstoneRetention: DefaultTombstoneRetention,
		MaxLifetime:        DefaultMaxLifetime,
		ClockSkewMax:       DefaultClockSkewMax,
		ExpirySweep:        DefaultExpirySweep,

		HooksMaxModuleBytes: DefaultHooksMaxModuleBytes,
		HooksLoadTimeout:    DefaultHooksLoadTimeout,

		Pressure: Pressure{
			Warn:      DefaultPressureWarn,
			Throttle:  DefaultPressureThrottle,
			Critical:  DefaultPressureCritical,
			Emergency: DefaultPressureEmergency,
			Shutdown:  DefaultPressureShutdown,
		},
		SQLWriteConcurrency: DefaultSQLWriteConcurrency,
		SQLTimeout:          DefaultSQLTimeout,
		SQLBatchTimeout:     DefaultSQLBatchTimeout,
		SQLWaitMax:          DefaultSQLWaitMax,
		FollowInterval:      DefaultFollowInterval,
		CDCMaxLen:           DefaultCDCMaxLen,
		FeedsMax:            DefaultFeedsMax,
		MerkleCalcEnabled:   DefaultMerkleCalcEnabled,
		MerkleCalcJitter:    DefaultMerkleCalcJitter,
		MerkleRedisMaxItems: DefaultMerkleRedisMaxItems,

		FilterEnabled:          DefaultFilterEnabled,
		FilterSnapshotInterval: DefaultFilterSnapshotInterval,
		FilterSnapshotChanges:  DefaultFilterSnapshotChanges,

		RedisPrefix:         DefaultRedisPrefix,
		RedisTimeout:        DefaultRedisTimeout,
		L2MaxTTL:            DefaultL2MaxTTL,
		RedisEvictionStart:  DefaultRedisEvictionStart,
		RedisEvictionTarget: DefaultRedisEvictionTarget,

		AccessLog: AccessLog{Sample: DefaultAccessSample},
		Replica:   Replica{Writes: DefaultReplicaWrites, PartitionGrace: DefaultPartitionGrace, OnPartition: DefaultOnPartition},
		Listen: Listen{
			Data:  defaultListener(DefaultDataAddress, DefaultMaxConnections),
			Admin: defaultListener(DefaultAdminAddress, DefaultAdminMaxConnections),
		},
	}
}

func defaultListener(address string, connections int) Listener {
	return Listener{
		Address:                  address,
		HeaderTimeout:            DefaultHeaderTimeout,
		MaxHeaderBytes:           DefaultMaxHeaderBytes,
		MaxURLBytes:              DefaultMaxURLBytes,
		MinBodyRate:              DefaultMinBodyRate,
		IdleTimeout:              DefaultIdleTimeout,
		MaxConnections:           connections,
		MaxConnectionsPerAddress: min(connections, DefaultMaxConnectionsPerAddress),
		MaxRequestsPerConnection: DefaultMaxRequestsPerConnection,
		ProxyProtocol:            DefaultProxyProtocol,
		DrainDelay:               DefaultDrainDelay,
		ShutdownTimeout:          DefaultShutdownTimeout,
	}
}

// defaulter is an element of an array of tables that fills its own defaults.
type defaulter interface{ setDefaults() }

func (p *Pool) setDefaults() {
	p.Balance = DefaultBalance
	p.Host = DefaultPoolHost
	p.ConnectTimeout = DefaultConnectTimeout
	p.FirstByteTimeout = DefaultFirstByteTimeout
	p.IdleTimeout = DefaultPoolIdleTimeout
	p.MaxConnections = DefaultPoolMaxConnections
	p.RetryPercent = DefaultRetryPercent
	p.RetryBurst = DefaultRetryBurst
	p.MaxFailures = DefaultMaxFailures
	p.Rest = DefaultRest
	p.RestMax = DefaultRestMax
	p.Health = PoolHealth{
		Interval: DefaultHealthInterval, Timeout: DefaultHealthTimeout, Healthy: DefaultHealthy, Unhealthy: DefaultUnhealthy, Status: []int{200},
	}
}

func (s *Site) setDefaults() {
	s.PathPrefix = DefaultPathPrefix
	s.Tiers = []string{"l1"}
	s.SetCookie = DefaultSetCookie
	s.Weight = DefaultWeight
	s.CacheStatus = DefaultCacheStatus
	s.MaxObjectBytes = DefaultMaxObjectBytes
	s.ChunkBytes = DefaultChunkBytes
	s.FinishFillBytes = DefaultFinishFill
	s.TargetedFields = []string{"Edgenode-Cache-Control", "CDN-Cache-Control"}
	s.StaleOnError = DefaultStaleOnError
	s.Keep = DefaultKeep
	s.HeuristicFraction = DefaultHeuristicFraction
	s.HeuristicMax = DefaultHeuristicMax
	s.NormaliseAcceptEncoding = true
	s.NormaliseAcceptLanguage = true
	s.VariantsMax = DefaultVariantsMax
	s.WaitersMax = DefaultWaitersMax
	s.UpgradesMax = DefaultUpgradesMax
	s.RedirectHTTPSPort = DefaultHTTPSPort
	s.UpgradesIdle = DefaultUpgradesIdle
}

func (h *Hook) setDefaults() {
	h.Fuel = Fuel{
		Route: DefaultFuelRoute,
		TTL:   DefaultFuelTTL,
		Evict: DefaultFuelEvict,
		Admit: DefaultFuelAdmit,
		Init:  DefaultFuelInit,
	}
	h.Instances = DefaultHookInstances
	h.RecycleCalls = DefaultRecycleCalls
	h.Match.PathPrefix = DefaultPathPrefix
}

func (t *Token) setDefaults() {}

func (n *Namespace) setDefaults() { n.Weight = DefaultWeight }
