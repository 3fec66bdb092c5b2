package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// newNumbers returns the metrics that are read from a Sample, except those whose labels are not known beforehand. Names
// follow https://prometheus.io/docs/practices/naming/: base units, _total for counters. They are built for a sampler and not
// at the program's start, where each of its commands would pay for them.
func newNumbers() []number {
	return slices.Concat(memberNumbers(), banNumbers(), gossipNumbers(), commitNumbers(), routerNumbers())
}

func memberNumbers() []number {
	return slices.Concat(
		labelled(prometheus.GaugeValue, "banmesh_members", "Members of the mesh by state, this router among the alive.", "state",
			series{"alive", func(s *Sample) float64 { return float64(s.Members.Alive) }},
			series{"failed", func(s *Sample) float64 { return float64(s.Members.Failed) }},
			series{"left", func(s *Sample) float64 { return float64(s.Members.Left) }},
		),
		[]number{
			gauge("banmesh_members_in_sync", "Alive members that hold the same set as this router, which is one of them.",
				func(s *Sample) float64 { return float64(s.MembersInSync) }),
			gauge("banmesh_in_sync", "1 while every alive member is known to hold the same set as this router.",
				func(s *Sample) float64 { return truth(s.InSync) }),
			gauge("banmesh_settled", "1 once this router has heard enough of the others since its start to act.",
				func(s *Sample) float64 { return truth(s.Settled) }),
			gauge("banmesh_clock_skew_seconds", "This router's clock less the median of the members'.",
				func(s *Sample) float64 { return s.Skew.Seconds() }),
			gauge("banmesh_members_clock_skew_max_seconds", "Largest difference of an alive member's clock from this router's, either way.",
				func(s *Sample) float64 { return s.MaxSkew.Seconds() }),
			gauge("banmesh_leader", "1 while this router leads.", func(s *Sample) float64 { return truth(s.Leader.Self) }),
			gauge("banmesh_leader_known", "1 while this router knows who leads.", func(s *Sample) float64 { return truth(s.Leader.Known) }),
			gauge("banmesh_leader_eligible", "1 while this router could lead.", func(s *Sample) float64 { return truth(s.Leader.Eligible) }),
			gauge("banmesh_leader_term", "Term of the election that this router knows; it grows with each change of the leader.",
				func(s *Sample) float64 { return float64(s.Leader.Term) }),
		},
	)
}

func banNumbers() []number {
	return []number{
		gauge("banmesh_bans_live", "Banned prefixes: those with a ban that is neither lifted nor over.",
			func(s *Sample) float64 { return float64(s.Counts.Live) }),
		gauge("banmesh_bans_effective", "Banned prefixes that are to be blocked: not allowed, not never-banned, of no blocked router.",
			func(s *Sample) float64 { return float64(s.Counts.Effective) }),
		gauge("banmesh_bans_own", "Banned prefixes that this router has banned itself.",
			func(s *Sample) float64 { return float64(s.Counts.Own) }),
		gauge("banmesh_allows", "Live entries of the allow-list.", func(s *Sample) float64 { return float64(s.Counts.Allows) }),
		gauge("banmesh_records", "Records held, of all kinds and of all routers.",
			func(s *Sample) float64 { return float64(s.Counts.Records) }),
		gauge("banmesh_records_over_limit", "Records that do not count because their router exceeds a limit.",
			func(s *Sample) float64 { return float64(s.Counts.OverLimit) }),
		gauge("banmesh_logs", "Logs held: one for each start of a router whose records are not all forgotten.",
			func(s *Sample) float64 { return float64(s.Counts.Logs) }),
		gauge("banmesh_frozen", "1 while additions are frozen.", func(s *Sample) float64 { return truth(s.Frozen) }),
		gauge("banmesh_routers_blocked", "Routers whose records do not count because they were revoked.",
			func(s *Sample) float64 { return float64(s.Blocked) }),
	}
}

func gossipNumbers() []number {
	return slices.Concat(
		[]number{
			counter("banmesh_records_received_total", "Records of other routers that were new to this one.",
				func(s *Sample) float64 { return float64(s.Gossip.RecordsMerged) }),
			counter("banmesh_records_sent_total", "Records sent, counted once for each message whatever the number of members it went to.",
				func(s *Sample) float64 { return float64(s.Gossip.RecordsSent) }),
			counter("banmesh_records_refused_total", "Records of other routers that were not taken: beyond a bound against floods, or of a newer version's kind.",
				func(s *Sample) float64 { return float64(s.Gossip.RecordsRefused) }),
		},
		labelled(prometheus.CounterValue, "banmesh_gossip_packets_total", "Packets of the gossip.", "direction",
			series{"sent", func(s *Sample) float64 { return float64(s.Gossip.PacketsSent) }},
			series{"received", func(s *Sample) float64 { return float64(s.Gossip.PacketsReceived) }},
		),
		labelled(prometheus.CounterValue, "banmesh_gossip_packet_bytes_total", "Bytes in packets of the gossip, with what seals them.", "direction",
			series{"sent", func(s *Sample) float64 { return float64(s.Gossip.BytesSent) }},
			series{"received", func(s *Sample) float64 { return float64(s.Gossip.BytesReceived) }},
		),
		labelled(prometheus.CounterValue, "banmesh_gossip_streams_total", "TCP streams of the gossip.", "side",
			series{"opened", func(s *Sample) float64 { return float64(s.Gossip.StreamsOpened) }},
			series{"taken", func(s *Sample) float64 { return float64(s.Gossip.StreamsTaken) }},
		),
		labelled(prometheus.CounterValue, "banmesh_gossip_stream_bytes_total", "Bytes in TCP streams of the gossip.", "direction",
			series{"sent", func(s *Sample) float64 { return float64(s.Gossip.StreamBytesSent) }},
			series{"received", func(s *Sample) float64 { return float64(s.Gossip.StreamBytesReceived) }},
		),
		labelled(prometheus.CounterValue, "banmesh_gossip_frames_total", "Frames sent that bring records, pass them on or ask for them.", "kind",
			series{"push", func(s *Sample) float64 { return float64(s.Gossip.Pushes) }},
			series{"relay", func(s *Sample) float64 { return float64(s.Gossip.Relays) }},
			series{"pull", func(s *Sample) float64 { return float64(s.Gossip.Pulls) }},
		),
		labelled(prometheus.CounterValue, "banmesh_gossip_exchanges_total", "Completed exchanges of what the other side lacks.", "side",
			series{"asked", func(s *Sample) float64 { return float64(s.Gossip.Exchanges) }},
			series{"served", func(s *Sample) float64 { return float64(s.Gossip.ExchangesServed) }},
		),
	)
}

func commitNumbers() []number {
	return slices.Concat(
		[]number{
			gauge("banmesh_commit_committed_addresses", "Addresses of the mesh in the conductor's tenant.",
				func(s *Sample) float64 { return float64(s.Commit.Committed) }),
			gauge("banmesh_commit_foreign_addresses", "Addresses in the tenant that no router of the mesh put there.",
				func(s *Sample) float64 { return float64(s.Commit.Foreign) }),
			gauge("banmesh_commit_held_addresses", "Removals and additions that wait for `banmesh commit --force`.",
				func(s *Sample) float64 { return float64(s.Commit.Held) }),
			gauge("banmesh_commit_failing", "1 while the last attempt to commit has failed.",
				func(s *Sample) float64 { return truth(s.Commit.LastError != nil) }),
		},
		labelled(prometheus.GaugeValue, "banmesh_commit_pending_addresses", "Addresses that wait to be added to the tenant or removed from it.", "change",
			series{"add", func(s *Sample) float64 { return float64(s.Commit.PendingAdd) }},
			series{"remove", func(s *Sample) float64 { return float64(s.Commit.PendingRemove) }},
		),
	)
}

func routerNumbers() []number {
	return []number{
		gauge("banmesh_enforce_elements", "Ranges of addresses, or bans, that are in force on this router.",
			func(s *Sample) float64 { return float64(s.Enforce.Elements) }),
		gauge("banmesh_enforce_behind", "Changes that are not in force on this router yet; -1 while that is not known.",
			func(s *Sample) float64 { return float64(s.Enforce.Behind) }),
		gauge("banmesh_enforce_behind_seconds", "For how long the oldest of the changes that are not in force yet has waited.",
			func(s *Sample) float64 { return s.Enforce.BehindFor.Seconds() }),
		counter("banmesh_enforce_batches_total", "Changes that this router's firewall, or its fail2ban, has taken.",
			func(s *Sample) float64 { return float64(s.Enforce.Batches) }),
		counter("banmesh_enforce_failures_total", "Changes that this router's firewall, or its fail2ban, has refused.",
			func(s *Sample) float64 { return float64(s.Enforce.Failures) }),
		counter("banmesh_enforce_dropped_packets_total", "Packets that this router dropped; read every 10 seconds.",
			func(s *Sample) float64 { return float64(s.Enforce.Dropped.Packets) }),
		counter("banmesh_enforce_dropped_bytes_total", "Bytes of the packets that this router dropped; read every 10 seconds.",
			func(s *Sample) float64 { return float64(s.Enforce.Dropped.Bytes) }),
		gauge("banmesh_store_file_bytes", "Size of the store's file.", func(s *Sample) float64 { return float64(s.Store.Bytes) }),
		gauge("banmesh_store_healthy", "1 while the store can be written.", func(s *Sample) float64 { return truth(s.Store.Healthy) }),
		gauge("banmesh_spooled_calls", "Calls that wait in the spool for the store.", func(s *Sample) float64 { return float64(s.Spooled) }),
		gauge("banmesh_warnings", "Warnings that banmesh status shows on this router.", func(s *Sample) float64 { return float64(s.Warnings) }),
	}
}
