// Package tiers is the tiered engine: memory, journal and SQL behind one set
// of operations. Begin with [Open], [Engine.Get] and [Engine.Submit].
package tiers
