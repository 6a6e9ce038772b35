package hooks

import (
	"encoding/binary"
	"log/slog"

	"github.com/tetratelabs/wazero/api"
)

const wasiModule = "wasi_snapshot_preview1"

// Error numbers of WASI preview 1.
const (
	wasiOK    = 0
	wasiBadF  = 8
	wasiInval = 28
	wasiNoSys = 52
)

// wasiFunctions are constants in place of a system: no arguments, environment,
// files or sockets; the clock stands at the instance's start; random numbers are
// a stream seeded by the module's hash; what is written to a descriptor is
// logged. All else answers ENOSYS. Guests built for wasip1 link against it, and
// what they do stays a function of module, configuration and input.
var wasiFunctions = buildWASI()

func buildWASI() map[string]hostFunction {
	table := map[string]hostFunction{}
	for name, params := range map[string]string{
		"fd_advise": "iIIi", "fd_allocate": "iII", "fd_datasync": "i", "fd_fdstat_set_flags": "ii",
		"fd_fdstat_set_rights": "iII", "fd_filestat_get": "ii", "fd_filestat_set_size": "iI",
		"fd_filestat_set_times": "iIIi", "fd_pread": "iiiIi", "fd_pwrite": "iiiIi", "fd_read": "iiii",
		"fd_readdir": "iiiIi", "fd_renumber": "ii", "fd_seek": "iIii", "fd_sync": "i", "fd_tell": "ii",
		"path_create_directory": "iii", "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiiIIi",
		"path_link": "iiiiiii", "path_open": "iiiiiIIii", "path_readlink": "iiiiii",
		"path_remove_directory": "iii", "path_rename": "iiiiii", "path_symlink": "iiiii",
		"path_unlink_file": "iii", "poll_oneoff": "iiii", "proc_raise": "i",
		"sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "sock_shutdown": "ii",
		"fd_fdstat_get": "ii",
	} {
		table[name] = wasiFunction(params, answer(wasiNoSys))
	}
	table["fd_close"] = wasiFunction("i", answer(wasiBadF))
	table["fd_prestat_get"] = wasiFunction("ii", answer(wasiBadF))
	table["fd_prestat_dir_name"] = wasiFunction("iii", answer(wasiBadF))
	table["args_get"] = wasiFunction("ii", answer(wasiOK))
	table["environ_get"] = wasiFunction("ii", answer(wasiOK))
	table["sched_yield"] = wasiFunction("", answer(wasiOK))
	table["args_sizes_get"] = wasiFunction("ii", wasiNoStrings)
	table["environ_sizes_get"] = wasiFunction("ii", wasiNoStrings)
	table["clock_res_get"] = wasiFunction("ii", wasiClockResolution)
	table["clock_time_get"] = wasiFunction("iIi", wasiClock)
	table["random_get"] = wasiFunction("ii", wasiRandom)
	table["fd_write"] = wasiFunction("iiii", wasiWrite)
	table["proc_exit"] = hostFunction{[]api.ValueType{tI32}, nil, func(*instance, []uint64) { panic(errExit) }}
	return table
}

func wasiFunction(params string, call func(*instance, []uint64)) hostFunction {
	f := hostFunction{results: []api.ValueType{tI32}, call: call}
	for _, c := range params {
		if c == 'I' {
			f.params = append(f.params, tI64)
		} else {
			f.params = append(f.params, tI32)
		}
	}
	return f
}

// answer is a function that returns one error number.
func answer(errno uint64) func(*instance, []uint64) {
	return func(i *instance, s []uint64) {
		i.charge(fuelHostCall)
		s[0] = errno
	}
}

func wasiNoStrings(i *instance, s []uint64) {
	clear(i.read(s[0], 4, fuelHostCall))
	clear(i.read(s[1], 4, fuelHostCall))
	s[0] = wasiOK
}

func wasiClockResolution(i *instance, s []uint64) {
	binary.LittleEndian.PutUint64(i.read(s[1], 8, fuelHostCall), 1_000_000)
	s[0] = wasiOK
}

func wasiClock(i *instance, s []uint64) {
	binary.LittleEndian.PutUint64(i.read(s[2], 8, fuelHostCall), uint64(i.born.UnixNano()))
	s[0] = wasiOK
}

func wasiRandom(i *instance, s []uint64) {
	b := i.read(s[0], s[1], fuelHostCall)
	_, _ = i.random.Read(b) // never fails
	s[0] = wasiOK
}

// wasiWrite(descriptor, vectors, number of vectors, written) logs the first bytes
// of each vector.
func wasiWrite(i *instance, s []uint64) {
	n := uint64(uint32(s[2]))
	if n > 64 {
		i.charge(fuelHostCall)
		s[0] = wasiInval
		return
	}
	vectors := i.read(s[1], n*8, fuelLog)
	total := uint32(0)
	for k := range n {
		v := vectors[k*8:]
		length := binary.LittleEndian.Uint32(v[4:])
		text := i.read(uint64(binary.LittleEndian.Uint32(v)), uint64(length), fuelLog)
		total += length
		if length > 0 {
			i.m.guestLog(slog.LevelInfo, text)
		}
	}
	binary.LittleEndian.PutUint32(i.read(s[3], 4, 0), total)
	s[0] = wasiOK
}
