//go:build !unix

package front

// remedy says what an operator can do about a failed listen or accept.
func remedy(error) string {
	return "check that the address is host:port, of this machine, and free"
}
