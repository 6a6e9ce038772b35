package config

import "fmt"

// What a node uses beside the budget of L1, as stated by guarantee G7.
const (
	// ProcessBytes is the binary, the Go runtime, SQLite's caches and buffers.
	ProcessBytes = 96 * MiB
	// ConnectionBytes is what a connection needs beside its header block and
	// URL: the socket's state, a write buffer, a goroutine's stack.
	ConnectionBytes = 16 * KiB
	// InstanceBytes is what an instance of a hook needs beside its linear
	// memory: the call engine and tables of the host.
	InstanceBytes = 128 * KiB
	// RedisQueueBytes bounds the copies that wait to be written to Redis, and
	// RedisConnections the connections, each with its buffers.
	RedisQueueBytes      = 16 * MiB
	RedisConnections     = 16
	RedisConnectionBytes = 128 * KiB
	// SQLReaders is the number of connections to an SQL server that read, beside
	// sql_write_concurrency that write. Each may hold one item or batch.
	SQLReaders         = 4
	SQLConnectionBytes = 512 * KiB
	// ReplicaBytes is what a replica holds of its hub's changes, beside the longest.
	ReplicaBytes = 32 * MiB
)

// A BudgetPart is one line of a [Budget].
type BudgetPart struct {
	Name  string `json:"name"`
	Count int64  `json:"count"`
	Each  Size   `json:"each_bytes"`
	Bytes Size   `json:"bytes"` // Count times Each
}

// Budget is the most memory that a node may come to use, by part.
type Budget struct {
	Parts []BudgetPart `json:"parts"`
	Total Size         `json:"total_bytes"`
}

// Budget returns the upper bound of the node's memory. Connections count with
// their limits as if all were open with the largest headers; a hook without a
// limit of its own counts as one with WASI.
func (c *Config) Budget() Budget {
	var b Budget
	b.add("memory tier (l1_max_bytes)", 1, c.L1MaxBytes)
	b.add("process", 1, ProcessBytes)
	b.add("bodies and fills under way (inflight_max_bytes)", 1, c.InflightMaxBytes)
	if c.RedisURL != "" {
		b.add("redis: copies that wait", 1, RedisQueueBytes)
		b.add("redis: connections", RedisConnections, RedisConnectionBytes+c.MaxPayloadBytes)
	}
	if c.SQLURL != "" {
		b.add("sql: connections (sql_write_concurrency and 4 that read)", int64(c.SQLWriteConcurrency+SQLReaders),
			SQLConnectionBytes+max(c.MaxPayloadBytes, c.BatchFlushBytes))
	}
	if c.Replica.From != "" {
		b.add("replica: records on their way, and the longest one", 1, ReplicaBytes+3*c.MaxPayloadBytes)
	}
	b.connections("data", c.Listen.Data)
	b.connections("admin", c.Listen.Admin)
	for _, h := range c.Hooks {
		memory := h.Memory
		if memory == 0 {
			memory = HookMemoryWASI
		}
		b.add(fmt.Sprintf("hook %s (instances)", h.Name), int64(h.Instances), memory+InstanceBytes)
	}
	for _, p := range c.Pools {
		b.add(fmt.Sprintf("pool %s (connections)", p.Name), int64(p.MaxConnections*len(p.Origins)), 2*ConnectionBytes)
	}
	return b
}

func (b *Budget) connections(name string, l Listener) {
	b.add(name+" connections (max_connections)", int64(l.MaxConnections), ConnectionBytes+l.MaxHeaderBytes+l.MaxURLBytes)
}

func (b *Budget) add(name string, count int64, each Size) {
	p := BudgetPart{Name: name, Count: count, Each: each, Bytes: Size(count) * each}
	b.Parts = append(b.Parts, p)
	b.Total += p.Bytes
}
