package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/node/admin"
	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/node/edit"
	"github.com/edgenode/edgenode/node/front"
	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/node/proxy"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// What each part asks of another one, and who answers.
var (
	_ admin.Engine   = (*tiers.Engine)(nil)
	_ admin.Exchange = (*front.Exchange)(nil)
	_ admin.Gate     = (*api.API)(nil)
	_ api.Engine     = (*tiers.Engine)(nil)
	_ api.Merkle     = (*tiers.Engine)(nil)
	_ api.Exchange   = (*front.Exchange)(nil)
	_ api.SitePurge  = sitePurge{}
	_ proxy.Engine   = (*tiers.Engine)(nil)
	_ proxy.Exchange = (*front.Exchange)(nil)
)

// bind opens both listeners; nothing is served yet.
func (n *Node) bind(cfg *config.Config, set *metrics.Set) error {
	var err error
	if n.ctl, err = front.Listen(n.listenOptions("admin", cfg, &cfg.Listen.Admin, set)); err != nil {
		return err
	}
	n.data, err = front.Listen(n.listenOptions("data", cfg, &cfg.Listen.Data, set))
	return err
}

func (n *Node) listenOptions(name string, cfg *config.Config, l *config.Listener, set *metrics.Set) front.Options {
	body := int64(cfg.MaxPayloadBytes)
	if name == "admin" { // modules of hooks are uploaded there; of one that is too large the handler says why
		body = max(body, 2*int64(cfg.HooksMaxModuleBytes))
	}
	return front.Options{
		Name: name, Address: l.Address,
		TLS:           front.TLS{Cert: l.TLS.Cert, Key: l.TLS.Key, ClientCA: l.TLS.ClientCA},
		HeaderTimeout: l.HeaderTimeout.Std(), IdleTimeout: l.IdleTimeout.Std(),
		MaxHeaderBytes: int(l.MaxHeaderBytes), MaxURLBytes: int(l.MaxURLBytes),
		MaxBodyBytes: body, MinBodyRate: orNone(int64(l.MinBodyRate)),
		MaxConnections: l.MaxConnections, MaxConnectionsPerAddress: l.MaxConnectionsPerAddress,
		MaxRequestsPerConnection: orNone(l.MaxRequestsPerConnection),
		TrustedProxies:           prefixes(l.TrustedProxies), ProxyProtocol: l.ProxyProtocol == "v1v2",
		Problem: frontProblem(int64(l.MaxHeaderBytes), int64(l.MaxURLBytes), body),
		Logger:  n.log.With("listener", name), Metrics: set,
	}
}

// orNone turns the configuration's "0 is none" into the listener's.
func orNone[T int | int64](v T) T {
	if v == 0 {
		return front.None
	}
	return v
}

// prefixes parses networks, which the configuration has checked.
func prefixes(networks []string) []netip.Prefix {
	if len(networks) == 0 {
		return nil
	}
	list := make([]netip.Prefix, 0, len(networks))
	for _, s := range networks {
		if p, err := config.ParseNetwork(s); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// frontProblem renders what the listener refuses like every other problem, with
// the limit that was passed. The listener's status stays where it is more exact
// than the table's.
func frontProblem(header, url, body int64) func(code int, name, detail string) (string, []byte) {
	return func(code int, name, detail string) (contentType string, text []byte) {
		p := problem.New(frontKind(name), detail)
		p.Status = code
		switch p.Kind {
		case problem.HeaderTooLarge:
			p.Limit = header
		case problem.TargetTooLong:
			p.Limit = url
		case problem.ContentTooLarge:
			p.Limit = body
		}
		return problem.ContentType, append(p.AppendJSON(nil), '\n')
	}
}

func frontKind(name string) problem.Kind {
	switch name {
	case "malformed-request":
		return problem.BadRequest
	case "not-implemented":
		return problem.NotImplemented
	case "expectation-failed":
		return problem.ExpectationFailed
	case "version-not-supported":
		return problem.HTTPVersion
	case "method-not-allowed":
		return problem.MethodNotAllowed
	case "url-too-long":
		return problem.TargetTooLong
	case "header-too-large":
		return problem.HeaderTooLarge
	case "body-too-large":
		return problem.ContentTooLarge
	case "request-timeout":
		return problem.RequestTimeout
	case "too-many-connections":
		return problem.TooManyConnections
	}
	return problem.Internal
}

// openEngine opens the tiers. The memory tier asks hooks from when some are loaded
// that it can ask, and only then: asking costs, even for no answer.
func (n *Node) openEngine(ctx context.Context, cfg *config.Config, set *metrics.Set) error {
	if err := checkPlace(cfg); err != nil {
		return err
	}
	o := n.engineOptions(cfg)
	o.Metrics = set
	n.hooks = &hookSet{now: n.now}
	var err error
	if n.engine, err = tiers.Open(ctx, o); err != nil {
		return err
	}
	n.hooks.memory = n.engine
	n.engine.KeepTables(tableMappings(cfg))
	return keepPlace(cfg)
}

// tableMappings returns the prefixes that are to have tables of their own.
func tableMappings(cfg *config.Config) (list []tiers.TableMapping) {
	for _, t := range cfg.L3Tables {
		list = append(list, tiers.TableMapping{Prefix: t.Prefix, Table: t.Table})
	}
	return list
}

func (n *Node) engineOptions(cfg *config.Config) tiers.Options {
	o := tiers.Options{
		DataDir: cfg.DataDir, NodeName: cfg.NodeName,
		SQLURL: cfg.SQLURL, SQLPassword: cfg.SQLPassword, SQLWriteConcurrency: cfg.SQLWriteConcurrency,
		Durability: durability(cfg.Durability),
		L1MaxBytes: int64(cfg.L1MaxBytes), MaxPayloadBytes: int64(cfg.MaxPayloadBytes), Eviction: cfg.Eviction,
		BatchFlush: cfg.BatchFlush.Std(), BatchFlushCount: cfg.BatchFlushCount, BatchFlushBytes: int64(cfg.BatchFlushBytes),
		Pressure: pressure.Thresholds{
			Warn: cfg.Pressure.Warn, Throttle: cfg.Pressure.Throttle, Critical: cfg.Pressure.Critical,
			Emergency: cfg.Pressure.Emergency, Shutdown: cfg.Pressure.Shutdown,
		},
		DeadLetterTries: cfg.DeadLetterTries, JournalMaxBytes: int64(cfg.JournalMaxBytes), SQLiteWALMax: int64(cfg.SQLiteWALMax),
		TombstoneRetention: cfg.TombstoneRetention.Std(), MaxLifetime: cfg.MaxLifetime.Std(),
		ClockSkewMax: cfg.ClockSkewMax.Std(), ExpirySweep: cfg.ExpirySweep.Std(),
		L3Shared: cfg.L3Shared, FollowInterval: cfg.FollowInterval.Std(),
		MerkleCalc: cfg.MerkleCalcEnabled, MerkleJitter: cfg.MerkleCalcJitter.Std(), L2TreeItems: cfg.MerkleRedisMaxItems,
		L1Snapshot: cfg.L1Snapshot,
		FilterOff:  !cfg.FilterEnabled, FilterSnapshotInterval: cfg.FilterSnapshotInterval.Std(), FilterSnapshotChanges: cfg.FilterSnapshotChanges,
		L3Timeout: cfg.SQLTimeout.Std(), L3ApplyTimeout: cfg.SQLBatchTimeout.Std(), L3WaitMax: cfg.SQLWaitMax.Std(),
		RedisURL: cfg.RedisURL, RedisPassword: cfg.RedisPassword, RedisSentinelPassword: cfg.RedisSentinelPassword,
		RedisPrefix: cfg.RedisPrefix, RedisTimeout: cfg.RedisTimeout.Std(), L2MaxTTL: cfg.L2MaxTTL.Std(), L2QueueBytes: int64(config.RedisQueueBytes),
		CDCEnabled: cfg.CDCEnabled, CDCMaxLen: cfg.CDCMaxLen, FormatEvent: api.AppendEvent,
		RedisEvictionStart: cfg.RedisEvictionStart, RedisEvictionTarget: cfg.RedisEvictionTarget,
		Now: n.now, Logger: n.log,
	}
	o.Namespaces, o.NamespaceOf = namespaces(cfg)
	if cfg.SQLURL == "" {
		o.SQLitePath = cfg.Database()
	}
	return o
}

// durability returns the level that the configuration, already checked, names.
func durability(name string) item.Durability {
	for _, d := range []item.Durability{item.DurabilityMemory, item.DurabilityJournal, item.DurabilitySync, item.DurabilityL3} {
		if d.String() == name {
			return d
		}
	}
	return item.DurabilitySync
}

// openHooks starts the host and loads the hooks.
func (n *Node) openHooks(ctx context.Context, cfg *config.Config, set *metrics.Set) error {
	return openHookSet(ctx, cfg, n.hooks, memoryKV{n.engine}, n.log, set)
}

// openHandlers makes what answers requests.
func (n *Node) openHandlers(cfg *config.Config, set *metrics.Set) error {
	p := newPolicy(n.hooks)
	bodies, fills := shares(int64(cfg.InflightMaxBytes), int64(cfg.MaxPayloadBytes))
	n.inflight.limit = bodies
	var err error
	n.proxy, err = proxy.New(proxy.Options{
		Engine: n.engine, Sites: proxySites(cfg), Pools: proxyPools(cfg), Policy: sitePolicy{p},
		Now: n.now, Name: publicName(cfg), MaxLifetime: cfg.MaxLifetime.Std(), MaxFillBytes: fills,
		Blocks: n.takeBlocks(cfg), Log: n.log, Metrics: set,
	})
	if err != nil {
		return err
	}
	n.api, err = api.New(api.Options{
		Engine: n.engine, MaxPayload: int64(cfg.MaxPayloadBytes), Tokens: apiTokens(cfg), Policy: itemPolicy{p},
		Merkle: n.engine, Replica: n.apiReplica(), Sites: sitePurge{n.proxy}, MaxFeeds: cfg.FeedsMax, Name: publicName(cfg), Metrics: set, Log: n.log, Now: n.now,
	})
	if err != nil {
		return err
	}
	n.table.Store(newTable(cfg))
	return n.openAdmin(cfg, set)
}

// shares divides inflight_max_bytes between request bodies and answers that are
// being fetched: half each, but always enough for the largest body.
func shares(all, largest int64) (bodies, fills int64) {
	bodies = max(all/2, largest)
	return bodies, max(all-bodies, 1)
}

// publicName is this node's name in Via, Cache-Status and answers to purges. A
// machine's own host name is nobody's business: only node_name is shown.
func publicName(cfg *config.Config) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '-'
	}, cfg.NodeName)
	switch {
	case clean == "":
		return "edgenode"
	case clean[0]|0x20 < 'a' || clean[0]|0x20 > 'z':
		return "n" + clean
	}
	return clean
}

// apiTokens turns tokens, already checked, into those of the items API.
func apiTokens(cfg *config.Config) []api.Token {
	tokens := make([]api.Token, 0, len(cfg.Tokens))
	for _, t := range cfg.Tokens {
		out := api.Token{Name: t.Name, Namespace: t.Namespace}
		if sum, err := hex.DecodeString(t.SHA256); err == nil {
			copy(out.SHA256[:], sum)
		}
		for _, name := range t.Scopes {
			if s, err := api.ParseScope(name); err == nil {
				out.Scopes |= s
			}
		}
		tokens = append(tokens, out)
	}
	return tokens
}

func proxyPools(cfg *config.Config) []proxy.Pool {
	pools := make([]proxy.Pool, 0, len(cfg.Pools))
	for _, p := range cfg.Pools {
		pools = append(pools, proxy.Pool{
			Name: p.Name, Origins: p.Origins, Balance: p.Balance, Host: p.Host, MaxConnections: p.MaxConnections,
			ConnectTimeout: p.ConnectTimeout.Std(), FirstByteTimeout: p.FirstByteTimeout.Std(), IdleTimeout: p.IdleTimeout.Std(),
			RetryPercent: noneBelow(p.RetryPercent), RetryBurst: noneBelow(p.RetryBurst),
			MaxFailures: p.MaxFailures, Rest: p.Rest.Std(), RestMax: p.RestMax.Std(),
			Health: proxy.Health{
				Path: p.Health.Path, Host: p.Health.Host, Interval: p.Health.Interval.Std(), Timeout: p.Health.Timeout.Std(),
				Healthy: p.Health.Healthy, Unhealthy: p.Health.Unhealthy, Status: p.Health.Status,
			},
			TLS: proxy.PoolTLS{
				ServerName: p.TLS.ServerName, CA: p.TLS.CA, Cert: p.TLS.Cert, Key: p.TLS.Key, Insecure: p.TLS.InsecureSkipVerify,
			},
		})
	}
	return pools
}

func proxySites(cfg *config.Config) []proxy.Site {
	sites := make([]proxy.Site, 0, len(cfg.Sites))
	for i := range cfg.Sites {
		s := &cfg.Sites[i]
		sites = append(sites, proxy.Site{
			Name: s.Name, Hosts: s.Hosts, PathPrefix: s.PathPrefix, Pool: s.Pool, Tiers: tierSet(s.Tiers),
			SetCookie: s.SetCookie, CacheStatus: s.CacheStatus, MaxObjectBytes: int64(s.MaxObjectBytes),
			ChunkBytes: int64(s.ChunkBytes), FinishFillBytes: sizeOrNegative(s.FinishFillBytes),
			TargetedFields: s.TargetedFields, DefaultLifetime: s.DefaultLifetime,
			StaleOnError: noneBelow(s.StaleOnError.Std()), StaleOn5xx: s.StaleOn5xx, Keep: noneBelow(s.Keep.Std()),
			IgnoreQuery: s.IgnoreQuery, SortQuery: s.SortQuery, HonourRequestDirectives: s.HonourRequestDirectives,
			AllowOverride:     s.AllowOverride,
			HeuristicFraction: orNegativeFraction(s.HeuristicFraction), HeuristicMax: s.HeuristicMax.Std(),
			RefreshAhead:         s.RefreshAhead.Std(),
			StaleWhileRevalidate: s.StaleWhileRevalidate.Std(), KeyFields: s.KeyFields, KeyCookies: s.KeyCookies, Methods: s.Methods,
			RawAcceptLanguage: !s.NormaliseAcceptLanguage,
			RawAcceptEncoding: !s.NormaliseAcceptEncoding, VariantsMax: s.VariantsMax, WaitersMax: s.WaitersMax,
			Upgrades: proxy.Upgrades{Protocols: s.Upgrades, Max: s.UpgradesMax, Idle: s.UpgradesIdle.Std()},
			Gate:     siteGate(s), ErrorPages: errorPages(s), Edits: siteEdits(s),
		})
	}
	return sites
}

// noneBelow turns a 0 that means none into the proxy's word for it.
func noneBelow[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// siteGate returns who may ask a site, and where they are sent.
func siteGate(s *config.Site) proxy.Gate {
	return proxy.Gate{
		Allow: prefixes(s.Allow), Deny: prefixes(s.Deny), PurgeACL: prefixes(s.PurgeACL), Rate: s.Rate, Burst: s.RateBurst,
		RedirectHTTPS: s.RedirectHTTPS, HTTPSPort: s.RedirectHTTPSPort, RedirectHosts: s.RedirectHosts, Maintenance: s.Maintenance,
	}
}

func errorPages(s *config.Site) map[string]proxy.Page {
	pages := make(map[string]proxy.Page, len(s.Pages))
	for status, p := range s.Pages {
		pages[status] = proxy.Page(p)
	}
	return pages
}

// siteEdits returns the changes of header fields of a site.
func siteEdits(s *config.Site) []edit.Edit {
	request, response := proxy.Header(s.Headers.Request), proxy.Header(s.Headers.Response)
	return append(request.Edits(false), response.Edits(true)...)
}

// sizeOrNegative is noneBelow for sizes.
func sizeOrNegative(n config.Size) int64 {
	if n == 0 {
		return -1
	}
	return int64(n)
}

// orNegativeFraction is noneBelow for a share of a whole.
func orNegativeFraction(f float64) float64 {
	if f == 0 {
		return -1
	}
	return f
}

// tierSet returns the tiers that the configuration, already checked, names.
func tierSet(names []string) (t item.Tiers) {
	for _, name := range names {
		switch name {
		case "l1":
			t |= item.L1
		case "l2":
			t |= item.L2
		case "l3":
			t |= item.L3
		}
	}
	return t
}

// sitePurge finds what is stored for sites by what people call it.
type sitePurge struct{ proxy *proxy.Proxy }

func (s sitePurge) URL(url string) (item.Predicate, []string, error) { return s.proxy.PurgeURL(url) }
func (s sitePurge) Host(host string) (item.Predicate, []string, error) {
	return proxy.PurgeHost(host)
}
func (s sitePurge) Prefix(urlPrefix string) (item.Predicate, []string, error) {
	return s.proxy.PurgePrefix(urlPrefix)
}

// setLevel applies log_level.
func (n *Node) setLevel(cfg *config.Config) {
	if n.o.Level == nil {
		return
	}
	if err := n.o.Level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		n.log.Warn("log_level is not known", "error", fmt.Errorf("node: %w", err))
	}
}
