// Command benchmodule writes a small route module that looks at a header and
// decides nothing but for how long that may be reused. make bench (node/bench)
// measures with it what a hook costs a hit.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

func main() {
	reuse := flag.Uint("reuse", 0, "seconds for which a verdict may be reused; 0 is not at all")
	output := flag.String("o", "bench.wasm", "file to write")
	flag.Parse()
	if err := os.WriteFile(*output, module(uint32(*reuse)), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// module walks the key and the value of its header once, as routing does.
func module(reuse uint32) []byte {
	walk := func(offset, length uint32) []byte { // adds up the bytes, in local 2
		return hooktest.Code([]byte{0x41, 0, 0x28, 2}, hooktest.U32(nil, hooktest.Buffer+length), []byte{0x21, 1, 0x02, 0x40, 0x03, 0x40, 0x20, 1, 0x45, 0x0d, 1},
			[]byte{0x20, 1, 0x41, 1, 0x6b, 0x22, 1}, []byte{0x41, 0, 0x28, 2}, hooktest.U32(nil, hooktest.Buffer+offset), []byte{0x6a, 0x2d, 0},
			hooktest.U32(nil, hooktest.Buffer), []byte{0x20, 2, 0x6a, 0x21, 2, 0x0c, 0, 0x0b, 0x0b})
	}
	m := hooktest.Guest(abi.Route, hooktest.Code(walk(abi.OffKey, abi.OffKeyLen), hooktest.Result(abi.OK, abi.ResultRecords, 0)))
	m.Manifest = `{"name":"bench","headers":["x-tenant"],"inputs":[]}`
	m.DataAt = hooktest.Buffer + abi.InputBytes
	if reuse > 0 {
		m.Data = abi.AppendRecord(nil, abi.RecReuse, binary.LittleEndian.AppendUint32(nil, reuse))
	}
	m.Data = abi.AppendEnd(m.Data)
	return m.Bytes()
}
