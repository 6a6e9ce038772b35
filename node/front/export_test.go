package front

// LookAtFiles does what the clock does every few seconds.
func LookAtFiles(s *Server) { s.refreshCertificates() }
