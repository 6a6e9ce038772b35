package problem

// A Kind is one row of the table of problems. The zero value is Internal.
type Kind uint8

// The kinds, by status.
const (
	Internal Kind = iota // 500: a fault of ours

	BadRequest
	BadPath
	BadID
	UnknownParameter
	RepeatedParameter
	BadParameter
	BadHeader
	RepeatedHeader
	BadCondition
	ContentRange
	BadTTL
	BadTier
	BadDurability
	BadState
	BadTag
	BadVersion
	BadCursor
	BadBody
	IncompleteBody
	BadSelector
	InvalidWrite
	Refused

	Unauthorized
	NotLocal
	ForeignOrigin
	ScopeMissing
	OutsideNamespace
	Denied
	SignatureRefused
	AddressDenied
	Replicated

	NotFound
	UnknownHook
	UnknownPath
	MethodNotAllowed
	RequestTimeout
	Superseded
	ReloadRunning
	TrialRuns
	NoTrial
	NodeLive
	ChangesGone
	PreconditionFailed
	ContentTooLarge
	TargetTooLong
	UnsupportedMediaType
	RangeNotSatisfiable
	ExpectationFailed
	Misdirected
	BadConfiguration
	ModuleRefused
	Throttled
	OverBudget
	TooManyConnections
	TooManyRequests
	HeaderTooLarge

	Corrupt
	UnknownFate
	NotImplemented
	NotConfigured
	MerkleUnknown
	MerkleDamaged
	OriginUnreachable
	OriginAnswerBad
	HubRefuses
	HubUnreachable
	Partitioned
	Unavailable
	StateUnknown
	VersionNotHere
	Pressure
	Busy
	TooManyFeeds
	ShuttingDown
	HookFault
	Maintenance
	TooManyUpgrades
	OriginTimeout
	NotCached
	HTTPVersion
	Full
	ReadOnly
	Loop

	kinds // their number
)

// An Entry is a row of the table.
type Entry struct {
	Name    string // last part of the type URN
	Status  int    // HTTP status
	Meaning string // one sentence: what happened, and what did not
	Remedy  string // one sentence: the way out
}

// Entry returns the row of k. A kind outside the table is Internal.
func (k Kind) Entry() Entry {
	if k >= kinds {
		k = Internal
	}
	return table[k]
}

// All calls yield with each row of the table, in order of status.
func All(yield func(Entry) bool) {
	for _, e := range sorted() {
		if !yield(e) {
			return
		}
	}
}

var table = [kinds]Entry{
	Internal: {"internal", 500, "The node met a fault of its own; nothing is known to have been done.",
		"Look into the node's log at this time and report it."},

	BadRequest:        {"bad-request", 400, "The message is not well-formed HTTP; it was not looked at.", "Correct the client, or the proxy in between."},
	BadPath:           {"bad-path", 400, "The path has an invalid percent sequence, invalid UTF-8 or a control character.", "Encode every byte outside visible ASCII as %XX of its UTF-8 form."},
	BadID:             {"bad-id", 400, "The id is empty, too long, not UTF-8, or holds a control character.", "Use 1 to 1,024 bytes of UTF-8 without control characters; write %3A for a colon before a last word state or status."},
	UnknownParameter:  {"unknown-parameter", 400, "The query has a parameter that this path does not know.", "Remove it or correct its name; docs/api.md lists them."},
	RepeatedParameter: {"repeated-parameter", 400, "A query parameter is given more than once.", "Give each parameter once."},
	BadParameter:      {"bad-parameter", 400, "The value of a query parameter is not allowed.", "See the detail for what is allowed."},
	BadHeader:         {"bad-header", 400, "The value of a header field is not allowed.", "See the detail for what is allowed."},
	RepeatedHeader:    {"repeated-header", 400, "A header field that may stand once stands more than once.", "Send it once."},
	BadCondition:      {"bad-condition", 400, "A condition of a write cannot be read; nothing was written.", `Send * or a list of quoted entity tags, such as "0123456789abcdef0123456789abcdef".`},
	ContentRange:      {"content-range", 400, "A write with Content-Range would store a part as the whole; nothing was written.", "Send the whole content without Content-Range."},
	BadTTL:            {"bad-ttl", 400, "A lifetime cannot be read or is out of range.", "Use seconds (900), units (15m, 1h30m, 1d), a class (minute, hour, day, week), never, or a list such as l1=60, l2=1h, l3=1d."},
	BadTier:           {"bad-tier", 400, "A tier is unknown or no tier is named.", "Use a comma-separated list of l1, l2, l3."},
	BadDurability:     {"bad-durability", 400, "The durability is unknown, or more than its tiers can honour; nothing was written.", "Use memory, journal, sync or l3; items without l3 are cache and can only be memory."},
	BadState:          {"bad-state", 400, "The state is not a short word.", "Use up to 32 of a-z 0-9 _ -."},
	BadTag:            {"bad-tag", 400, "A tag is not allowed, or there are too many.", "Use up to 256 tags of 1 to 256 bytes of visible ASCII without comma."},
	BadVersion:        {"bad-version", 400, "A version is not a decimal number above 0 and below 2^64.", "Send back what Edge-Version said."},
	BadCursor:         {"bad-cursor", 400, "The cursor is not ours, or belongs to another query.", "Repeat the query it came from, or begin without a cursor."},
	BadBody:           {"bad-body", 400, "The body is not the JSON that is expected here.", "See the detail for the member or the position."},
	IncompleteBody:    {"incomplete-body", 400, "The body ended before its announced length; nothing was written.", "Send it again."},
	BadSelector:       {"bad-selector", 400, "The request does not say exactly which items it means; nothing was changed.", "See the detail for the selectors that are allowed."},
	InvalidWrite:      {"invalid-write", 400, "The options of the write contradict each other or a limit; nothing was written.", "See the detail."},
	Refused:           {"refused", 422, "The database refuses this item for what is in it; it was not stored.", "Change the content or the metadata; the node's log says what the database objects to."},

	Unauthorized:     {"unauthorized", 401, "No token was sent, or it is not known.", "Send Authorization: Bearer with a token whose SHA-256 is in the configuration."},
	NotLocal:         {"not-local", 403, "No tokens are configured, so that only local requests are answered.", "Ask from this machine as http://localhost, without a proxy in between, or add a [[token]] to the configuration."},
	ForeignOrigin:    {"foreign-origin", 403, "The request was sent by a page of another origin.", "Ask without a browser, or from a page of this very address."},
	ScopeMissing:     {"scope-missing", 403, "The token is known but lacks the scope for this request.", "Add the scope to the token's configuration."},
	OutsideNamespace: {"outside-namespace", 403, "The token is known but its namespace does not reach there.", "Stay inside the namespace, or use another token."},
	Denied:           {"denied", 403, "A hook denied the request; nothing was done.", "See the detail, and the hook's documentation."},

	SignatureRefused: {"signature-refused", 403, "The module's signature is missing, wrong or by nobody who is trusted; nothing was changed.", "Sign it with a key of hooks_trusted_keys (edgenode hook sign), or set hooks_unsigned_upload."},
	AddressDenied:    {"address-denied", 403, "The site does not serve this client address; nothing was done.", "Ask from an address that it allows; allow, deny and purge_acl of the site say which."},
	Replicated:       {"replicated", 403, "The item belongs to the hub that this node follows, and is read-only here; nothing was written.", "Write it at the hub, which the detail names, or set replica.writes to forward."},

	NotFound:             {"not-found", 404, "There is no such item.", "None is needed if it may be absent."},
	UnknownHook:          {"unknown-hook", 404, "No [[hook]] of the configuration has this name.", "Add one; its module may be uploaded then."},
	UnknownPath:          {"unknown-path", 404, "This path does not exist here.", "See docs/api.md for those that do."},
	MethodNotAllowed:     {"method-not-allowed", 405, "The path exists but not with this method.", "Use one of the methods in Allow."},
	RequestTimeout:       {"request-timeout", 408, "The request came too slowly.", "Send it again over a better connection; limits are in the configuration under [listen]."},
	Superseded:           {"superseded", 409, "A newer version, a delete or a purge came first; nothing was stored.", "Read the present item and decide anew."},
	ReloadRunning:        {"reload-running", 409, "Another reload is under way.", "Wait for its end and ask again."},
	TrialRuns:            {"trial-runs", 409, "A set of hooks is on trial already; nothing was changed.", "Promote it or abort it first."},
	NoTrial:              {"no-trial", 409, "No set of hooks is on trial; nothing was changed.", "Upload a module with ?trial=shadow or ?trial=canary."},
	NodeLive:             {"node-live", 409, "The node is alive; it was not removed.", "Stop it, wait until GET /v1/nodes says that it is not live, and ask again."},
	ChangesGone:          {"changes-gone", 410, "Changes after this number are not kept any more, or the number is not of this database.", "Take the present number (since=now), compare what you have with what is here (a Merkle diff, or the list, which has versions), then go on from that number."},
	PreconditionFailed:   {"precondition-failed", 412, "The condition does not hold for the present item; nothing was changed.", "Read the present item and decide anew."},
	ContentTooLarge:      {"content-too-large", 413, "The content is above the limit; nothing was written.", "Send less, or raise max_payload_bytes (and the limits of the backends behind it)."},
	TargetTooLong:        {"target-too-long", 414, "The request target is above the limit.", "Use a shorter one."},
	UnsupportedMediaType: {"unsupported-media-type", 415, "The content type is not taken here.", "See the detail for those that are."},
	RangeNotSatisfiable:  {"range-not-satisfiable", 416, "No part of the asked ranges lies inside the content.", "See Content-Range for its length."},
	ExpectationFailed:    {"expectation-failed", 417, "The Expect field asks for something unknown.", "Only 100-continue is known."},
	Misdirected:          {"misdirected", 421, "This host is not served here.", "Add it to a [[site]] or to api_hosts."},
	BadConfiguration:     {"bad-configuration", 422, "The new configuration has faults; the old one stays in force.", "Correct the faults that are listed and reload."},
	ModuleRefused:        {"module-refused", 422, "The module cannot be loaded; the hooks are as they were.", "See the detail; edgenode hook inspect says what the module needs."},
	Throttled:            {"throttled", 429, "Memory or journal is nearly full and writes are thinned out; nothing was written.", "Try again after Retry-After."},
	OverBudget:           {"over-budget", 429, "The token's budget is spent; nothing was written.", "Try again after Retry-After, or raise the budget."},
	TooManyConnections:   {"too-many-connections", 429, "This address has too many connections.", "Reuse connections, or raise the limit."},
	TooManyRequests:      {"too-many-requests", 429, "This client address has spent its share of requests for the site; nothing was done.", "Try again after Retry-After, or raise rate and rate_burst of the site."},
	HeaderTooLarge:       {"header-too-large", 431, "The header block is above the limit.", "Send fewer or shorter fields."},

	Corrupt:           {"corrupt", 500, "The stored content does not match its hash and was not served.", "Ask again: the damaged copy was dropped; if it stays, restore the item."},
	UnknownFate:       {"unknown-fate", 500, "The write may or may not survive: it reached the node, but its place on disk is not confirmed.", "Read the item, or write the same again: that is safe."},
	NotImplemented:    {"not-implemented", 501, "The method or coding is not implemented.", "Use another."},
	MerkleUnknown:     {"merkle-unknown", 503, "The Merkle tree is being built, or no node calculates it.", "Try again after Retry-After; see merkle in /healthz, and that merkle_calc_enabled is true on a node."},
	MerkleDamaged:     {"merkle-damaged", 500, "Rows of the Merkle tree contradict each other.", "Build it anew: edgenode verify --rebuild. Look why rows were lost or changed in SQL."},
	NotConfigured:     {"not-configured", 501, "What is asked for is not configured on this node.", "Configure it; see the detail."},
	OriginUnreachable: {"origin-unreachable", 502, "No origin could be reached.", "Look at the pool's health."},
	OriginAnswerBad:   {"origin-answer-bad", 502, "The origin's answer is not well-formed or was cut off.", "Look at the origin."},
	HubRefuses:        {"hub-refuses", 502, "The item belongs to the hub that this node follows, which does not take this node's token for that; nothing was written.", "Give the token of replica.token_file the scope write at the hub, and a namespace that reaches there."},
	HubUnreachable:    {"hub-unreachable", 503, "The item belongs to the hub that this node follows, which cannot be reached; nothing was written.", "Try again after Retry-After; /healthz says since when."},
	Partitioned:       {"partitioned", 503, "The hub was not heard for longer than partition_grace, and this node is not to answer from what it has.", "Try again after Retry-After, ask the hub, or set replica.on_partition to stale."},
	Unavailable:       {"unavailable", 503, "The answer lies in a backend that cannot be asked now; it says nothing about whether the item exists.", "Try again after Retry-After; /healthz names the backend."},
	StateUnknown:      {"state-unknown", 503, "The present item cannot be known while its backend is away, so the condition was not decided; nothing was changed.", "Try again after Retry-After, or write without a condition."},
	VersionNotHere:    {"version-not-here", 503, "No version as new as min_version is known here yet.", "Try again after Retry-After, or ask the node that wrote it."},
	Pressure:          {"pressure", 503, "Memory or journal is full up to a level at which this is refused; nothing was written.", "Try again after Retry-After; /healthz shows the level, l1_max_bytes and journal_max_bytes set it."},
	Busy:              {"busy", 503, "Too many requests wait for the same thing already.", "Try again after Retry-After."},
	TooManyFeeds:      {"too-many-feeds", 503, "As many readers of the change feed are served as may be.", "Try again after Retry-After, on another node, or raise feeds_max."},
	ShuttingDown:      {"shutting-down", 503, "The node is shutting down or not yet ready; nothing was done.", "Try again, on another node if there is one."},
	HookFault:         {"hook-fault", 503, "A hook failed, and it is configured to deny then.", "Look at /hooks, or set on_fault."},
	Maintenance:       {"maintenance", 503, "The site is under maintenance; nothing was done.", "Try again after Retry-After."},
	TooManyUpgrades:   {"too-many-upgrades", 503, "The site has as many upgraded connections as it may; this one was not made.", "Try again after Retry-After, or raise upgrades_max of the site."},
	OriginTimeout:     {"origin-timeout", 504, "The origin did not answer in time.", "Look at the origin, or raise the pool's limits."},
	NotCached:         {"not-cached", 504, "The request takes only what is cached (only-if-cached), and nothing is that may be used.", "Ask without only-if-cached."},
	HTTPVersion:       {"http-version", 505, "This version of HTTP is not spoken here.", "Use HTTP/1.1."},
	Full:              {"full", 507, "The journal's quota or the disk is exhausted; nothing was written.", "Free disk space, raise journal_max_bytes, or bring the SQL backend back so that the journal drains."},
	ReadOnly:          {"read-only", 507, "The node takes no writes after a failed write to its disk; nothing was written.", "Replace or repair the disk and restart."},
	Loop:              {"loop", 508, "The request came through this node too often.", "Look at which pools lead back to this node: an origin of one of them forwards here."},
}
