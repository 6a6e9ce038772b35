package meter

// Refused returns why an opcode is not in the pinned set, nil if it is.
func Refused(op byte) error {
	if op == opPrefixMisc || immediates[op] != immUnknown {
		return nil
	}
	return refusal(op)
}
