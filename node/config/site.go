package config

import (
	"strings"
	"time"
)

// Pool is a named group of origins that serve the same.
type Pool struct {
	// Name is how sites and hooks speak of it: [a-z0-9_-], at most 63 bytes.
	Name string `toml:"name" reload:"yes"`
	// Origins are base URLs, http or https, without path, query or user.
	Origins []string `toml:"origins" reload:"yes"`
	// Balance chooses among them; hash is consistent by key.
	Balance string `toml:"balance" reload:"yes" oneof:"round-robin least-connections hash"`
	// Host is what the origin gets as Host: "client" passes the client's on,
	// "origin" is the origin's own, anything else is sent as it stands.
	Host string `toml:"host" reload:"yes"`
	// ConnectTimeout is the time for TCP and TLS.
	ConnectTimeout Duration `toml:"connect_timeout" reload:"yes" range:"10ms..5m"`
	// FirstByteTimeout is the time from the request to the answer's header, and
	// the longest wait of a coalesced request.
	FirstByteTimeout Duration `toml:"first_byte_timeout" reload:"yes" range:"10ms..1h"`
	// IdleTimeout closes a kept connection; keep it below the origin's own.
	IdleTimeout Duration `toml:"idle_timeout" reload:"yes" range:"100ms..1h"`
	// MaxConnections bounds the connections to each origin.
	MaxConnections int `toml:"max_connections" reload:"yes" range:"1..100000"`
	// RetryPercent is how many of a hundred requests may be sent once more when
	// the first try brought nothing of an answer.
	RetryPercent int `toml:"retry_percent" reload:"yes" range:"0..100"`
	// RetryBurst is how many repeats may come at once before they are earned.
	RetryBurst int `toml:"retry_burst" reload:"yes" range:"0..10000"`
	// MaxFailures is how many requests in a row an origin may fail before it
	// rests: it is not asked as long as another one is well.
	MaxFailures int `toml:"max_failures" reload:"yes" range:"1..1000"`
	// Rest is how long; each further failure doubles it, up to RestMax.
	Rest    Duration `toml:"rest" reload:"yes" range:"10ms..1h"`
	RestMax Duration `toml:"rest_max" reload:"yes" range:"10ms..1d"`
	// Health makes the node ask the origins whether they are well.
	Health PoolHealth `toml:"health"`
	// TLS is how https origins are known.
	TLS PoolTLS `toml:"tls"`
}

// PoolHealth are checks of the origins of a pool.
type PoolHealth struct {
	// Path is path and query of the check; empty makes none.
	Path string `toml:"path" reload:"yes"`
	// Host is sent as Host; empty is the origin's own.
	Host string `toml:"host" reload:"yes"`
	// Interval is the time between two checks of an origin, Timeout that of one.
	Interval Duration `toml:"interval" reload:"yes" range:"100ms..1h"`
	Timeout  Duration `toml:"timeout" reload:"yes" range:"10ms..5m"`
	// Healthy checks in a row bring an origin back, Unhealthy failed ones take
	// it out.
	Healthy   int `toml:"healthy" reload:"yes" range:"1..1000"`
	Unhealthy int `toml:"unhealthy" reload:"yes" range:"1..1000"`
	// Status are those of an origin that is well.
	Status []int `toml:"status" reload:"yes" range:"200..599"`
}

// PoolTLS names the files of connections to https origins, PEM, read at the start
// and at each reload. Relative to the configuration's folder.
type PoolTLS struct {
	ServerName string `toml:"server_name" reload:"yes"` // SNI and verified name; empty: the origin's own
	CA         string `toml:"ca" reload:"yes"`          // the only authorities believed; empty: the system's
	Cert       string `toml:"cert" reload:"yes"`        // shown to origins
	Key        string `toml:"key" reload:"yes"`         // its private key, not readable by others
	// InsecureSkipVerify verifies nothing: anybody on the way can be the origin.
	InsecureSkipVerify bool `toml:"insecure_skip_verify" reload:"yes"`
}

// Site is a set of hosts and paths that the node answers from a cache in front
// of a pool.
type Site struct {
	// Name is how hooks, logs and metrics speak of it: [a-z0-9_-], ≤ 63 bytes.
	Name string `toml:"name" reload:"yes"`
	// Hosts are exact names, "*.suffix" (any depth) or "*"; lower case here.
	Hosts []string `toml:"hosts" reload:"yes"`
	// PathPrefix is matched on segment borders: /a has /a and /a/b, not /ab.
	PathPrefix string `toml:"path_prefix" reload:"yes"`
	// Pool is the name of the pool that has the originals.
	Pool string `toml:"pool" reload:"yes"`
	// Tiers keep the answers: l1, and l3 for a cache that outlives the machine.
	Tiers []string `toml:"tiers" reload:"yes"`
	// SetCookie says when an answer with Set-Cookie is stored: strict only when
	// it is explicitly shared, rfc like any other, never.
	SetCookie string `toml:"set_cookie" reload:"yes" oneof:"strict rfc never"`
	// Weight is what a hit of an answer of this site is worth in memory, beside the
	// others.
	Weight float64 `toml:"weight" reload:"yes" range:"0.01..100"`
	// L1MaxBytes is what its answers may take of memory; 0B is no bound of its own.
	L1MaxBytes Size `toml:"l1_max_bytes" reload:"yes" range:"0B..16TiB"`
	// CacheStatus is how much the Cache-Status field (RFC 9211) tells.
	CacheStatus string `toml:"cache_status" reload:"yes" oneof:"full short off"`
	// ChunkBytes is above which size an answer with a strong ETag is stored in
	// segments of this size, whatever its length. At most MaxPayloadBytes.
	ChunkBytes Size `toml:"chunk_bytes" reload:"yes" range:"64KiB..64MiB"`
	// FinishFillBytes is below how many missing bytes an answer is fetched to its
	// end after its last client left. 0B ends the fetch at once.
	FinishFillBytes Size `toml:"finish_fill_bytes" reload:"yes" range:"0B..1TiB"`
	// MaxObjectBytes is the largest answer that is stored whole; larger ones are
	// stored in segments if they have a strong ETag, else they stream.
	// Unless it is set, it is no more than a quarter of Config.L1MaxBytes.
	MaxObjectBytes Size `toml:"max_object_bytes" reload:"yes" range:"1KiB..1TiB"`
	// TargetedFields are the targeted cache control fields (RFC 9213) that are
	// obeyed, the first present wins.
	TargetedFields []string `toml:"targeted_fields" reload:"yes"`
	// DefaultLifetimes give a lifetime to answers without freshness of their
	// own, by status ("200", "404") or class ("2xx"). See [Site.DefaultLifetime].
	DefaultLifetimes map[string]Duration `toml:"default_lifetimes" reload:"yes" range:"0s..3650d"`
	// HeuristicFraction is how much of the time since Last-Modified an answer
	// without a lifetime is fresh; 0 turns such guesses off.
	HeuristicFraction float64 `toml:"heuristic_fraction" reload:"yes" range:"0..1"`
	// HeuristicMax bounds it.
	HeuristicMax Duration `toml:"heuristic_max" reload:"yes" range:"1s..3650d"`
	// StaleWhileRevalidate is the window of answers that give none themselves.
	StaleWhileRevalidate Duration `toml:"stale_while_revalidate" reload:"yes" range:"0s..3650d"`
	// RefreshAhead is how long before its end an answer that is asked for much is
	// fetched again behind a hit, but no longer than the last quarter of its lifetime;
	// 0s is not at all.
	RefreshAhead Duration `toml:"refresh_ahead" reload:"yes" range:"0s..1d"`
	// StaleOnError is how long past its lifetime an answer may stand in when
	// the origin cannot be reached.
	StaleOnError Duration `toml:"stale_on_error" reload:"yes" range:"0s..3650d"`
	// StaleOn5xx lets it stand in for answers of 5xx too.
	StaleOn5xx bool `toml:"stale_on_5xx" reload:"yes"`
	// Keep is how long an answer with a validator is kept past all use, so that
	// it can be validated.
	Keep Duration `toml:"keep" reload:"yes" range:"0s..3650d"`
	// IgnoreQuery are the query parameters left out of the key: names, or
	// prefixes that end in "*".
	IgnoreQuery []string `toml:"ignore_query" reload:"yes"`
	// SortQuery sorts the query parameters in the key by name.
	SortQuery bool `toml:"sort_query" reload:"yes"`
	// KeyFields are request fields whose values are part of the key.
	KeyFields []string `toml:"key_fields" reload:"yes"`
	// KeyCookies are cookies of the request that are.
	KeyCookies []string `toml:"key_cookies" reload:"yes"`
	// Methods are those that are accepted; others get 405. Empty: all but CONNECT
	// and TRACE.
	Methods []string `toml:"methods" reload:"yes"`
	// HonourRequestDirectives are the request Cache-Control directives that are
	// obeyed. only-if-cached always is.
	HonourRequestDirectives []string `toml:"honour_request_directives" reload:"yes"`
	// AllowOverride are the directives of an answer that a ttl hook may override
	// with a longer lifetime.
	AllowOverride []string `toml:"allow_override" reload:"yes"`
	// NormaliseAcceptEncoding reduces Accept-Encoding to zstd, br and gzip
	// before origin and variants see it.
	NormaliseAcceptEncoding bool `toml:"normalise_accept_encoding" reload:"yes"`
	// NormaliseAcceptLanguage compares Accept-Language by meaning and selects among
	// variants by their Content-Language.
	NormaliseAcceptLanguage bool `toml:"normalise_accept_language" reload:"yes"`
	// VariantsMax bounds the variants of one key.
	VariantsMax int `toml:"variants_max" reload:"yes" range:"1..10000"`
	// WaitersMax bounds the requests that wait for one fill.
	WaitersMax int `toml:"waiters_max" reload:"yes" range:"1..1000000"`

	// ErrorPages are files with the content of the node's own answers, by status
	// or class. Relative to the configuration's folder; read at the start and at
	// each reload, into Pages.
	ErrorPages map[string]string `toml:"error_pages" reload:"yes"`
	// Pages is what ErrorPages names.
	Pages map[string]ErrorPage `reload:"yes"`
	// Headers changes fields of requests and answers.
	Headers Headers `toml:"headers"`
	// RedirectHTTPS sends http to https on the same host.
	RedirectHTTPS bool `toml:"redirect_https" reload:"yes"`
	// RedirectHTTPSPort is the port that clients reach https on.
	RedirectHTTPSPort int `toml:"redirect_https_port" reload:"yes" range:"1..65535"`
	// RedirectHosts sends hosts of the site to others.
	RedirectHosts map[string]string `toml:"redirect_hosts" reload:"yes"`
	// Allow are the client networks that are let in; empty is all.
	Allow []string `toml:"allow" reload:"yes"`
	// Deny are those that are not; they win over Allow.
	Deny []string `toml:"deny" reload:"yes"`
	// Rate is how many requests a second one client may make; 0 is no limit.
	Rate float64 `toml:"rate" reload:"yes" range:"0..1000000"`
	// RateBurst is how many it may make at once; 0 is Rate rounded up.
	RateBurst int `toml:"rate_burst" reload:"yes" range:"0..1000000"`
	// PurgeACL are the client networks whose PURGE purges; empty: the method
	// passes to the origin like any that is unknown.
	PurgeACL []string `toml:"purge_acl" reload:"yes"`
	// Upgrades are the protocols to which connections may be upgraded: websocket.
	Upgrades []string `toml:"upgrades" reload:"yes"`
	// UpgradesMax bounds these connections.
	UpgradesMax int `toml:"upgrades_max" reload:"yes" range:"1..1000000"`
	// UpgradesIdle closes one over which nothing moves.
	UpgradesIdle Duration `toml:"upgrades_idle" reload:"yes" range:"1s..1d"`
	// Maintenance answers everything with 503.
	Maintenance bool `toml:"maintenance" reload:"yes"`
}

// An ErrorPage is the content of an error answer.
type ErrorPage struct {
	Type string // media type
	Body []byte
}

// Headers are changes of header fields, after those of hooks.
type Headers struct {
	Request  FieldEdits `toml:"request"`  // before cache and origin see it
	Response FieldEdits `toml:"response"` // on its way to the client; what is stored stays as it was
}

// FieldEdits are the changes of one side.
type FieldEdits struct {
	Set    map[string]string `toml:"set" reload:"yes"`    // instead of all lines of that name
	Add    map[string]string `toml:"add" reload:"yes"`    // beside them
	Remove []string          `toml:"remove" reload:"yes"` // names
}

// DefaultLifetime returns the operator's lifetime for an answer of status that
// carries no freshness of its own. It reports false if there is none.
func (s *Site) DefaultLifetime(status int) (time.Duration, bool) {
	if len(s.DefaultLifetimes) == 0 || status < 100 || status > 599 {
		return 0, false
	}
	key := [3]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)}
	d, ok := s.DefaultLifetimes[string(key[:])]
	if !ok {
		key[1], key[2] = 'x', 'x'
		d, ok = s.DefaultLifetimes[string(key[:])]
	}
	return d.Std(), ok
}

// Hook is one WASM module in the chain.
type Hook struct {
	// Name is how logs, metrics and the admin API speak of it.
	Name string `toml:"name" reload:"yes"`
	// Module is the file. Relative to the configuration's folder.
	Module string `toml:"module" reload:"yes"`
	// Hooks are the exports that are used: route, ttl, evict, admit.
	Hooks []string `toml:"hooks" reload:"yes"`
	// Match limits route and ttl to some requests.
	Match Match `toml:"match"`
	// Config is handed to the module as JSON when it starts. It is not secret:
	// /config shows it.
	Config map[string]any `toml:"config" reload:"yes"`
	// Pools are those that the module may choose, numbered in this order from 0.
	Pools []string `toml:"pools" reload:"yes"`
	// Grant are the capabilities given to it.
	Grant []string `toml:"grant" reload:"yes"`
	// OnFault is what a fault costs: default, bypass or deny. Empty means
	// default, and is refused for a module whose manifest says guards = true.
	OnFault string `toml:"on_fault" reload:"yes" oneof:"default bypass deny"`
	// Fuel bounds the work of one call.
	Fuel Fuel `toml:"fuel"`
	// Memory bounds the linear memory of one instance; 0B is 4 MiB, or 16 MiB
	// for a module with WASI.
	Memory Size `toml:"memory" reload:"yes" range:"0B..1GiB"`
	// Instances bounds the instances of the module, and thus the calls at once.
	Instances int `toml:"instances" reload:"yes" range:"1..1024"`
	// RecycleCalls replaces an instance after that many calls; 0 is never.
	RecycleCalls int `toml:"recycle_calls" reload:"yes" range:"0..1000000000000"`
}

// Match limits a hook. Both must hold; an empty list of sites means every
// request, the items API included.
type Match struct {
	Sites      []string `toml:"sites" reload:"yes"`
	PathPrefix string   `toml:"path_prefix" reload:"yes"` // on segment borders
}

// Fuel is the work that one call of each hook may do, in metered steps.
type Fuel struct {
	Route int `toml:"route" reload:"yes" range:"100..1000000000"`
	TTL   int `toml:"ttl" reload:"yes" range:"100..1000000000"`
	Evict int `toml:"evict" reload:"yes" range:"100..1000000000"`
	Admit int `toml:"admit" reload:"yes" range:"100..1000000000"`
	Init  int `toml:"init" reload:"yes" range:"100..100000000000"`
}

// Namespace is the items whose ids begin with a prefix, as they are kept in memory.
type Namespace struct {
	// Prefix begins the ids and ends in a separator; of two prefixes the longer wins.
	Prefix string `toml:"prefix" reload:"yes"`
	// Weight is what a hit of one is worth, beside the others.
	Weight float64 `toml:"weight" reload:"yes" range:"0.01..100"`
	// L1MaxBytes is what they may take; 0B is no bound of their own.
	L1MaxBytes Size `toml:"l1_max_bytes" reload:"yes" range:"0B..16TiB"`
}

// Token lets its bearer in. Only the hash of the token is kept.
type Token struct {
	// Name is how audit records speak of it.
	Name string `toml:"name" reload:"yes"`
	// SHA256 is the hash of the token, 64 lower-case hex digits. When File is
	// given, it is the hash of the file's content.
	SHA256 string `toml:"sha256" reload:"yes" secret:"yes"`
	// File holds the token itself, on one line, readable by its owner or group
	// only. Relative to the configuration's folder.
	File string `toml:"file" reload:"yes"`
	// Scopes are what the bearer may do: read, write, purge, admin.
	Scopes []string `toml:"scopes" reload:"yes"`
	// Namespace limits it to ids with this prefix, which ends in one of / . :
	// Empty: all ids.
	Namespace string `toml:"namespace" reload:"yes"`
}

// Can reports whether the token has scope.
func (t *Token) Can(scope string) bool {
	for _, s := range t.Scopes {
		if s == scope {
			return true
		}
	}
	return false
}

// Owns reports whether id lies in the token's namespace.
func (t *Token) Owns(id string) bool { return strings.HasPrefix(id, t.Namespace) }
