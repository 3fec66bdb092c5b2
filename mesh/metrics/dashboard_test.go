package metrics

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"
)

const examples = "../../examples/grafana"

// shown are the metrics that an agent can show, as Prometheus stores them: a
// histogram as three, and of each its labels.
func shown(t *testing.T) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	for name, f := range families(t, scrape(t, newMetrics(t, Config{}))) {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		if f.GetType() == dto.MetricType_HISTOGRAM {
			out[name+"_bucket"] = append(labels, "le")
			out[name+"_sum"], out[name+"_count"] = labels, labels
			continue
		}
		out[name] = labels
	}
	return out
}

var (
	metricName = regexp.MustCompile(`\b(?:banmesh|process|go)_[a-z0-9_]+\b(?:\{[^}]*\})?`)
	labelName  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"`)
	grouping   = regexp.MustCompile(`\bby \(([a-z_, ]*)\)`)
)

// checkExpr fails where an expression asks for what no agent shows.
func checkExpr(t *testing.T, where, expr string, all map[string][]string) {
	t.Helper()
	found := metricName.FindAllString(expr, -1)
	if len(found) == 0 {
		t.Errorf("%s: no metric in %q", where, expr)
	}
	var labels []string
	for _, text := range found {
		name, selector, _ := strings.Cut(text, "{")
		has, ok := all[name]
		if !ok {
			t.Errorf("%s: no agent shows %s", where, name)
		}
		labels = append(labels, has...)
		for _, m := range labelName.FindAllStringSubmatch(selector, -1) {
			if l := m[1]; l != "job" && l != "instance" && !slices.Contains(has, l) {
				t.Errorf("%s: %s has no label %s", where, name, l)
			}
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			if l = strings.TrimSpace(l); !slices.Contains(labels, l) {
				t.Errorf("%s: nothing in %q has the label %s", where, expr, l)
			}
		}
	}
	if strings.Count(expr, "(") != strings.Count(expr, ")") {
		t.Errorf("%s: brackets do not match in %q", where, expr)
	}
}

type panel struct {
	ID          int
	Type, Title string
	Description string
	Datasource  struct{ UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		RefID, Expr, LegendFormat string
		Datasource                struct{ UID string }
	}
}

func TestDashboardShowsWhatThereIs(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(examples, "banmesh.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title, UID string
		Panels     []panel
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	all := shown(t)
	var variables, rows []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
		if v.Type == "query" {
			checkExpr(t, "variable "+v.Name, v.Definition, all)
		}
	}
	if want := []string{"datasource", "job", "instance"}; !slices.Equal(variables, want) {
		t.Errorf("variables %q, want %q", variables, want)
	}
	ids := make(map[int]bool)
	taken := make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: its id %d is another panel's too", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies over %q, or out of the page", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %d %q: it needs a title, a description, a query, and the data source that is chosen", p.ID, p.Title)
		}
		for _, q := range p.Targets {
			checkExpr(t, p.Title, q.Expr, all)
			if q.Datasource.UID != "${datasource}" || !strings.Contains(q.Expr, `job=~"$job", instance=~"$instance"`) {
				t.Errorf("%s: %q does not follow the variables", p.Title, q.Expr)
			}
		}
	}
	if want := []string{"Mesh", "Bans", "Replication", "Conductor", "Router"}; !slices.Equal(rows, want) {
		t.Errorf("rows %q, want %q", rows, want)
	}
}

func TestAlertsAskForWhatThereIs(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(examples, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	all, n := shown(t), 0
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			n++
			checkExpr(t, r.Alert, r.Expr, all)
			if r.For == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s: it needs a time, a severity, and what to do", r.Alert)
			}
		}
	}
	if n < 3 {
		t.Errorf("%d alerts", n)
	}
}

func TestScrapeConfigIsYAML(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(examples, "prometheus.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Scrape []struct {
			Job     string                       `yaml:"job_name"`
			Statics []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Scrape) != 1 || f.Scrape[0].Job != "banmesh" || len(f.Scrape[0].Statics[0].Targets) == 0 {
		t.Errorf("%+v: want one job with its targets", f)
	}
}
