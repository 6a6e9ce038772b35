// Package hooktool is what the commands "edgenode hook …" do: it makes projects
// for modules, runs cases and benchmarks with the real host and without a server,
// replays recorded requests, and makes keys and signatures.
//
// Begin with [ReadModule]; then [RunCases], [Bench], [Decide] and [HitRatios] ask
// it. [NewProject] and [NewKey] write files. Nothing here prints: results are
// values that the commands show as text or JSON.
//
// A module is loaded as the configuration of a node would load it, and is granted
// whatever its manifest asks for.
package hooktool
