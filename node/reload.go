package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgenode/edgenode/node/config"
)

// ErrReloadRunning is returned by a reload while another one, or the shutdown,
// is under way. Nothing was changed.
var ErrReloadRunning = errors.New("node: another reload, or the shutdown, is under way")

// A ReloadResult says what a reload did. When it has an Error or Faults nothing
// was changed and the old configuration is in force.
type ReloadResult struct {
	OK       bool            `json:"ok"`
	Applied  []config.Change `json:"applied"`          // in force now
	Restart  []config.Change `json:"restart"`          // in force after a restart
	Hooks    []HookReport    `json:"hooks"`            // as loaded now
	Warnings []string        `json:"warnings"`         // what was left as it was, though the rest is in force
	Faults   []config.Fault  `json:"faults,omitempty"` // of the configuration
	Error    string          `json:"error,omitempty"`  // why the old one stays

	err error
}

// Err returns why the old configuration stays, or nil.
func (r *ReloadResult) Err() error { return r.err }

// Reload reads the configuration again and takes over what can change while the
// node runs: all of it or nothing. Hooks are loaded anew even if their tables
// are as they were, since their files may differ; certificates too. Requests
// under way end as they began. One reload runs at a time.
func (n *Node) Reload(ctx context.Context) *ReloadResult {
	r := &ReloadResult{Applied: []config.Change{}, Restart: []config.Change{}, Hooks: []HookReport{}, Warnings: []string{}}
	if !n.reloading.TryLock() {
		r.refuse(ErrReloadRunning)
		return r
	}
	defer n.reloading.Unlock()
	if err := n.reload(ctx, r); err != nil {
		r.refuse(err)
		n.metrics.reloadFailures.Inc()
		n.log.Error("reload refused, the old configuration stays", "error", err)
		return r
	}
	r.OK = true
	n.metrics.reloads.Inc()
	n.log.Info("reloaded", "changed", len(r.Applied), "need_restart", keysOf(r.Restart), "hooks", len(r.Hooks), "warnings", r.Warnings)
	return r
}

// RollbackHooks makes the former set of hooks the live one, and the live one the
// former; the configuration stays as it is. It fails with hooks.ErrNoPrevious if
// there was no reload yet, and with ErrReloadRunning. The next reload loads the
// hooks of the configuration again.
func (n *Node) RollbackHooks() error {
	if !n.reloading.TryLock() {
		return ErrReloadRunning
	}
	defer n.reloading.Unlock()
	err := n.hooks.rollback()
	n.log.Info("audit: rollback of hooks", "ok", err == nil, "hooks", len(n.hooks.host.Report().Modules))
	return err
}

// refuse notes why nothing was changed.
func (r *ReloadResult) refuse(err error) {
	*r = ReloadResult{
		Applied: []config.Change{}, Restart: []config.Change{}, Hooks: []HookReport{}, Warnings: []string{},
		Error: err.Error(), err: err,
	}
	var faults config.Faults
	if errors.As(err, &faults) {
		r.Faults = faults
	}
}

// pendingRestart returns what the configuration says now and will be in force
// after a restart.
func (n *Node) pendingRestart() []config.Change {
	changes := []config.Change{}
	for _, c := range config.Diff(n.o.Config, n.last.Load()) {
		if !c.Reloadable {
			changes = append(changes, c)
		}
	}
	return changes
}

func keysOf(changes []config.Change) []string {
	keys := make([]string, 0, len(changes))
	for _, c := range changes {
		keys = append(keys, c.Key)
	}
	return keys
}

func (n *Node) reload(ctx context.Context, r *ReloadResult) error {
	old := n.last.Load()
	cfg := old
	if n.o.Load != nil {
		var err error
		if cfg, err = n.o.Load(); err != nil {
			return err
		}
	}
	if err := n.apply(ctx, cfg); err != nil {
		return err
	}
	for _, c := range config.Diff(old, cfg) {
		if c.Reloadable {
			r.Applied = append(r.Applied, c)
		}
	}
	r.Restart = n.pendingRestart()
	r.Warnings = append(r.Warnings, n.reloadCertificates()...)
	r.Hooks = n.hooks.host.Report().Modules
	return nil
}

// apply puts cfg in force, or nothing of it. What can be refused comes first and
// is undone if something after it is; what cannot fail comes last.
func (n *Node) apply(ctx context.Context, cfg *config.Config) (err error) {
	old := n.last.Load()
	if err := n.hooks.load(ctx, cfg); err != nil {
		return err
	}
	undo := []func() error{n.hooks.rollback}
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				err = errors.Join(err, undo[i]())
			}
		}
	}()
	if err := n.proxy.Configure(proxySites(cfg), proxyPools(cfg)); err != nil {
		return err
	}
	undo = append(undo, func() error { return n.proxy.Configure(proxySites(old), proxyPools(old)) })
	if err := n.api.SetTokens(apiTokens(cfg)); err != nil {
		return err
	}
	undo = append(undo, func() error { return n.api.SetTokens(apiTokens(old)) })
	if err := n.access.Configure(cfg.AccessLog.Path, cfg.AccessLog.Sample); err != nil {
		return err
	}
	undo = append(undo, func() error { return n.access.Configure(old.AccessLog.Path, old.AccessLog.Sample) })
	// What needs a restart is for the engine as it was, whatever the file says now.
	if err := n.engine.Reload(n.engineOptions(config.InForce(n.o.Config, cfg))); err != nil {
		return err
	}
	n.setLevel(cfg)
	n.data.SetTrustedProxies(prefixes(cfg.Listen.Data.TrustedProxies))
	n.ctl.SetTrustedProxies(prefixes(cfg.Listen.Admin.TrustedProxies))
	n.table.Store(newTable(cfg))
	n.inForce(cfg)
	return nil
}

// reloadCertificates reads the TLS files again. Wrong ones leave the old in use.
func (n *Node) reloadCertificates() (warnings []string) {
	for _, err := range []error{n.data.ReloadCertificates(), n.ctl.ReloadCertificates()} {
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("the old certificate stays in use: %v", err))
		}
	}
	return warnings
}
