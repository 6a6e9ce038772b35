package node

import (
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/edgenode/edgenode/node/config"
)

// limitMemory tells the collector how much the process may hold: the memory
// tier, the process itself and what is under way. Without it the heap would grow
// to twice the memory tier before a collection. GOMEMLIMIT in the environment is
// the operator's own word and stands.
//
// It is called at the start and after each reload, since both can change the
// size of the memory tier.
func limitMemory(cfg *config.Config, environ []string, log *slog.Logger) {
	for _, v := range environ {
		if strings.HasPrefix(v, "GOMEMLIMIT=") {
			return
		}
	}
	limit := int64(cfg.L1MaxBytes + config.ProcessBytes + cfg.InflightMaxBytes)
	if cfg.RedisURL != "" {
		limit += int64(config.RedisQueueBytes)
	}
	debug.SetMemoryLimit(limit)
	log.Debug("memory limit set", "bytes", limit)
}
