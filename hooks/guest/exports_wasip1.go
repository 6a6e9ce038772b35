package guest

import (
	"unsafe"

	"github.com/edgenode/edgenode/hooks/abi"
)

// The module's state. A guest runs one call at a time.
var (
	memory     [(abi.InputBytes + abi.OutputBytes) / 8]uint64 // aligned to 8
	input      []byte
	output     []byte
	request    Request
	answer     Answer
	candidates Candidates

	onInit  func(config []byte) error
	onRoute func(*Request, *Answer)
	onTTL   func(*Request, *Answer)
	onEvict func(c *Candidates, scores []int32)
	onAdmit func(c *Candidates) bool
)

// OnInit sets the function that gets the configuration, JSON, once. An error
// refuses it.
func OnInit(f func(config []byte) error) { onInit = f }

// OnRoute sets the route hook.
func OnRoute(f func(*Request, *Answer)) { onRoute = f }

// OnTTL sets the ttl hook.
func OnTTL(f func(*Request, *Answer)) { onTTL = f }

// OnEvict sets the evict hook. It fills in one score per candidate, in order; the
// lowest leaves first. Scores hold what an earlier call left.
func OnEvict(f func(c *Candidates, scores []int32)) { onEvict = f }

// OnAdmit sets the admit hook: whether the newcomer, candidate 0, comes in and the
// others leave.
func OnAdmit(f func(c *Candidates) bool) { onAdmit = f }

//go:wasmexport edge_abi_version
func version() int32 { return abi.Version }

//go:wasmexport edge_alloc_buf
func allocBuf(in, out int32) int32 {
	all := unsafe.Slice((*byte)(unsafe.Pointer(&memory[0])), len(memory)*8)
	if in < abi.HeadBytes || out < 0 || int(in)+int(out) > len(all) {
		return 0
	}
	input, output = all[:in:in], all[in:in+out]
	request.b = input
	answer.out = output
	return int32(uintptr(unsafe.Pointer(&memory[0])))
}

//go:wasmexport edge_init
func initialise(n int32) int32 {
	if onInit == nil {
		return 0
	}
	if err := onInit(input[:n]); err != nil {
		Log(3, err.Error())
		return 1
	}
	return 0
}

//go:wasmexport edge_on_route
func route(int32) int64 { return ask(abi.Route, onRoute) }

//go:wasmexport edge_on_ttl
func ttl(int32) int64 { return ask(abi.TTL, onTTL) }

func ask(hook abi.Hook, f func(*Request, *Answer)) int64 {
	if f == nil {
		return int64(abi.MakeResult(abi.Default, 0, 0))
	}
	answer.reset(hook, output)
	f(&request, &answer)
	return int64(answer.Result())
}

//go:wasmexport edge_on_evict
func evict(int32) int64 {
	if onEvict == nil {
		return int64(abi.MakeResult(abi.Default, 0, 0))
	}
	n := readCandidates()
	onEvict(&candidates, unsafe.Slice((*int32)(unsafe.Pointer(&output[0])), n))
	return int64(abi.MakeResult(abi.OK, 0, n))
}

//go:wasmexport edge_on_admit
func admit(int32) int64 {
	if onAdmit == nil {
		return int64(abi.MakeResult(abi.Default, 0, 0))
	}
	readCandidates()
	yes := uint32(0)
	if onAdmit(&candidates) {
		yes = 1
	}
	return int64(abi.MakeResult(abi.OK, 0, yes))
}

// readCandidates makes a view of the block, whose records stand as in an
// abi.Candidate: little endian, without padding, at a multiple of 8.
func readCandidates() uint32 {
	first := uint32(le.Uint16(input)) + 8
	n := le.Uint32(input[first-8:])
	candidates.pressure = le.Uint32(input[first-4:])
	candidates.list = unsafe.Slice((*abi.Candidate)(unsafe.Pointer(&input[first])), n)
	return n
}

//go:wasmimport edge log
func hostLog(level uint32, text unsafe.Pointer, n uint32)

// Log writes to the node's log, at a bounded rate: 0 debug, 1 info, 2 warning, 3
// error.
func Log(level int, text string) {
	hostLog(uint32(level), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

//go:wasmimport edge metric_add
func hostMetricAdd(id uint32, n int64)

// MetricAdd adds to counter number id of the manifest's metrics.
func MetricAdd(id int, n int64) { hostMetricAdd(uint32(id), n) }

//go:wasmimport edge metric_observe
func hostMetricObserve(id uint32, v float64)

// MetricObserve adds to histogram number id of the manifest's metrics.
func MetricObserve(id int, v float64) { hostMetricObserve(uint32(id), v) }

//go:wasmimport edge now_ms
func hostNow() uint64

// NowMillis is the time of the request; a verdict that asks is not reusable.
// Request.NowMillis says the same.
func NowMillis() uint64 { return hostNow() }

//go:wasmimport edge header
func hostHeader(response uint32, name unsafe.Pointer, n uint32, buf unsafe.Pointer, size uint32) int32

// AnyHeader copies the first line of a request header, in lower case, to buf as far as
// it fits and returns its whole length, -1 if there is none. It needs the capability
// "header"; a verdict that asks is not reusable.
func AnyHeader(buf []byte, name string) int { return anyHeader(0, buf, name) }

// AnyResponseHeader is the same for the response.
func AnyResponseHeader(buf []byte, name string) int { return anyHeader(1, buf, name) }

func anyHeader(response uint32, buf []byte, name string) int {
	return int(hostHeader(response, unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), unsafe.Pointer(unsafe.SliceData(buf)), uint32(len(buf))))
}

//go:wasmimport edge config
func hostConfig(key unsafe.Pointer, n uint32, buf unsafe.Pointer, size uint32) int32

// Config copies a value of the configuration to buf, as AnyHeader: strings as they
// are, others as JSON. OnInit gets the whole.
func Config(buf []byte, key string) int {
	return int(hostConfig(unsafe.Pointer(unsafe.StringData(key)), uint32(len(key)), unsafe.Pointer(unsafe.SliceData(buf)), uint32(len(buf))))
}

//go:wasmimport edge kv_get
func hostKVGet(key unsafe.Pointer, n uint32, buf unsafe.Pointer, size uint32) int32

// KVGet copies a value of the memory tier to buf, as AnyHeader. It needs the
// capability "kv_get"; a verdict that asks is not reusable.
func KVGet(buf []byte, key string) int {
	return int(hostKVGet(unsafe.Pointer(unsafe.StringData(key)), uint32(len(key)), unsafe.Pointer(unsafe.SliceData(buf)), uint32(len(buf))))
}

//go:wasmimport edge tag_add
func hostTagAdd(tag unsafe.Pointer, n uint32) uint32

// TagAdd adds a tag to the verdict, in place of Answer.Tag.
func TagAdd(tag string) bool {
	return hostTagAdd(unsafe.Pointer(unsafe.StringData(tag)), uint32(len(tag))) == 1
}
