// Command edgenode runs an edge node, checks its configuration, and talks to a
// running one. Without arguments it serves.
//
//	edgenode [serve] [--config FILE]     run a node
//	edgenode check [--config FILE]       say what is wrong with a configuration, or what it comes to
//	edgenode get|put|delete|list|status  items of a running node
//	edgenode purge                       invalidate what a running node holds
//	edgenode dead-letters [list|retry|drop] writes that SQL refuses
//	edgenode verify [--with URL]         compare nodes, or a node with its rows
//	edgenode explain URL                 what is stored for a URL, and what a request would do now
//	edgenode hook new|manifest           begin a WASM module
//	edgenode hook inspect|test|bench     what a module is, decides and costs
//	edgenode hook replay FILE LOG        what it would have decided, and its hit ratio
//	edgenode hook keygen|sign            keys and signatures of modules
//	edgenode hook list|load|rollback|…   hooks of a running node
//	edgenode bench URL…                  send requests, say how many were answered and how fast
//	edgenode bench replay BYTES          memory as a player of traces sees it
//	edgenode version                     version, commit, Go, hook ABI
//
// Every command has --help; all but serve and put have --json. Exit codes:
//
//	0  done
//	1  it did not work: the node could not start, a file could not be read
//	2  the command line is wrong
//	3  the configuration is wrong
//	4  there is no such item
//	5  the node cannot be reached or cannot answer now; trying again may help
//	6  the node refused; trying the same again will not help
//	7  a case of hook test differs, or what verify compared
package main

import (
	"os"
	"os/signal"

	"github.com/edgenode/edgenode/node"
)

func main() {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, node.Signals()...)
	os.Exit(run(os.Args[1:], &process{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), signals: signals,
	}))
}
