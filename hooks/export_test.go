package hooks

// Unmetered returns o with metering off, to measure what metering costs.
func Unmetered(o Options) Options {
	o.unmetered = true
	return o
}
