package abi

// PutCandidate is the portable way to write a candidate.
var PutCandidate = putCandidate
