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
	onScore func(abi.Candidate, uint32) int32
	onAdmit func(newcomer abi.Candidate, victims *Candidates) bool
)

// OnInit sets the function that gets the configuration, JSON, once. An error
// refuses it.
func OnInit(f func(config []byte) error) { onInit = f }

// OnRoute sets the route hook.
func OnRoute(f func(*Request, *Answer)) { onRoute = f }

// OnTTL sets the ttl hook.
func OnTTL(f func(*Request, *Answer)) { onTTL = f }

// OnEvict sets the evict hook: a score for each candidate, the lowest leaves
// first. Pressure is in 1/65536.
func OnEvict(f func(c abi.Candidate, pressure uint32) int32) { onScore = f }

// OnAdmit sets the admit hook. Candidate 0 of all is the newcomer.
func OnAdmit(f func(newcomer abi.Candidate, all *Candidates) bool) { onAdmit = f }

//go:wasmexport edge_abi_version
func version() int32 { return abi.Version }

//go:wasmexport edge_alloc_buf
func allocBuf(in, out int32) int32 {
	all := unsafe.Slice((*byte)(unsafe.Pointer(&memory[0])), len(memory)*8)
	if in < abi.HeadBytes || out < 0 || int(in)+int(out) > len(all) {
		return 0
	}
	input, output = all[:in:in], all[in:in+out]
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
func route(n int32) int64 { return ask(abi.Route, onRoute, n) }

//go:wasmexport edge_on_ttl
func ttl(n int32) int64 { return ask(abi.TTL, onTTL, n) }

func ask(hook abi.Hook, f func(*Request, *Answer), n int32) int64 {
	if f == nil {
		return int64(abi.MakeResult(abi.Default, 0, 0))
	}
	request.b = input[:n]
	answer.reset(hook, output)
	f(&request, &answer)
	return int64(answer.Result())
}

//go:wasmexport edge_on_evict
func evict(n int32) int64 {
	if onScore == nil {
		return int64(abi.MakeResult(abi.Default, 0, 0))
	}
	candidates = Candidates{input[:n], int(le.Uint16(input)) + 8}
	count, pressure := candidates.Len(), candidates.Pressure()
	for i := range count {
		le.PutUint32(output[i*4:], uint32(onScore(candidates.At(i), pressure)))
	}
	return int64(abi.MakeResult(abi.OK, 0, uint32(count)))
}

//go:wasmexport edge_on_admit
func admit(n int32) int64 {
	if onAdmit == nil {
		return int64(abi.MakeResult(abi.Default, 0, 0))
	}
	candidates = Candidates{input[:n], int(le.Uint16(input)) + 8}
	yes := uint32(0)
	if onAdmit(candidates.At(0), &candidates) {
		yes = 1
	}
	return int64(abi.MakeResult(abi.OK, 0, yes))
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

//go:wasmimport edge tag_add
func hostTagAdd(tag unsafe.Pointer, n uint32) uint32

// TagAdd adds a tag to the verdict, in place of Answer.Tag.
func TagAdd(tag string) bool {
	return hostTagAdd(unsafe.Pointer(unsafe.StringData(tag)), uint32(len(tag))) == 1
}
