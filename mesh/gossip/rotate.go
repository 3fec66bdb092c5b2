package gossip

func (m *Mesh) serveKey(s *messages, payload []byte, from string) {
	m.refuse(from, "unknown stream kind")
}
