package rest

import "testing"

func TestTheReleaseTellsWhoseTheCandidateIs(t *testing.T) {
	for release, want := range map[string]style{
		"": styleUnknown, "unknown": styleUnknown, "4.5.3": styleShared, "5.2": styleShared, "5.3": styleNode, "5.5.11-1": styleNode,
		"5.6": styleUser, "6.0": styleUser, "SSR-6.3.4-7.r2.el7": styleUser, "7.2": styleUser, "10.0": styleUser, "5.10": styleUser,
	} {
		if got := styleOf(release); got != want {
			t.Errorf("%q: %v, want %v", release, got, want)
		}
	}
}

func TestVerdictsOfValidateAndCommit(t *testing.T) {
	for body, want := range map[string]int{
		``: 0, `[]`: 0, `null`: 0, `{}`: 0, `""`: 0, `true`: 0,
		`[{"message":"a"},{"message":"b"}]`: 2, `{"message":"a"}`: 1, `{"errors":["a","b"]}`: 2, `[{"code":7}]`: 1, `["a"]`: 1,
	} {
		if got := messages([]byte(body)); len(got) != want {
			t.Errorf("%s: %q, want %d", body, got, want)
		}
	}
	for body, want := range map[string][2]int{ // of a validation, of a commit
		`[]`:                                     {0, 0},
		`{"message":"Configuration is valid"}`:   {0, 1},
		`{"message":"x","severity":"error"}`:     {1, 1},
		`{"error":"x"}`:                          {1, 1},
		`{"errors":["x"]}`:                       {1, 1},
		`[{"message":"a","severity":"warning"}]`: {0, 0},
		`[{"message":"a","severity":"WARNING"},{"message":"b"}]`: {1, 1},
		`[{"message":"a","severity":"error"}]`:                   {1, 1},
		`["a"]`:                                                  {1, 1},
	} {
		for i, step := range []string{"validate", "commit"} {
			if got := complaints(step, []byte(body)); len(got) != want[i] {
				t.Errorf("%s answered with %s: %q, want %d", step, body, got, want[i])
			}
		}
	}
}
