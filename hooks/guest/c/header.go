// Package c holds the C header of the hook ABI, edge.h, for the program that writes
// new projects. Nothing of it is part of a guest.
package c

import _ "embed"

// Header is the text of edge.h.
//
//go:embed edge.h
var Header string
