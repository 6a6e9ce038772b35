// Package config reads edgenode's configuration: one TOML file, overridden by
// environment variables, checked as a whole.
//
// Begin with [Load]. It returns either a complete [Config], in which every
// field has its default or a checked value, or [Faults]: every fault there is,
// each with file, line, key, value and remedy.
//
// Order of precedence, the last wins: the constants in defaults.go, the file,
// the variables EDGENODE_<KEY> (a dot in a key becomes an underscore:
// listen.data.address is EDGENODE_LISTEN_DATA_ADDRESS). Arrays of tables
// ([[pool]], [[site]], [[hook]], [[token]]) come from the file only.
//
// The struct tags are the schema: toml names the key, reload says whether a
// running node takes a change up ("yes") or must be restarted ("no"), range and
// oneof bound the value, secret hides it from [Config.Effective] and [Diff].
// The file edgenode.toml in the root of the repository documents every key; a
// test holds the two together.
//
// The package also holds [Router], which finds the site of a request, since two
// sites that claim the same are a fault of the configuration.
//
// It does not open listeners, compile hooks or connect to origins: whether a
// module exists and fits its grants is asked by `edgenode check`, through the
// hook host. The only files read here are the configuration, token files,
// certificates and keys. It starts no goroutines.
package config
