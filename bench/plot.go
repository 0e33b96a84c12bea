package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// panel is one diagram of a plot: lines over a logarithmic number of files, from zero up.
type panel struct {
	title, unit string
	lines       []curve
}

type curve struct {
	name   string
	x, y   []float64
	colour string
	dash   string
	thin   bool
}

// The colours are read on white and on black alike: an image does not know which of them it lies on.
const plotGrey = "#808a94"

var plotColours = []string{"#2f81f7", "#d29922", "#3fa35a", "#a371f7"}

var plotDashes = []string{"", "7 4", "2 4"}

const (
	plotWidth, plotHeight = 860, 396
	panelWidth            = 330
	panelHeight           = 230
	panelTop              = 40
)

// growthPlot draws backupd's time per file and its memory: a colour for each step, a dash for each kind of tree. The floors'
// time is thin, in the colour of their step.
func growthPlot(points []point) string {
	times, memory := panel{title: "time per file", unit: "µs"}, panel{title: "peak anonymous memory", unit: "MB"}
	var floors []curve
	for k, kind := range growthKinds {
		for i, step := range growthSteps {
			line := func(tool string, value func(point) float64) curve {
				c := curve{name: step + ", " + kind.name, colour: plotColours[i], dash: plotDashes[k], thin: tool == "floor"}
				for _, p := range points {
					if p.tool == tool && p.kind == kind.name && p.step == step {
						c.x, c.y = append(c.x, float64(p.files)), append(c.y, value(p))
					}
				}
				return c
			}
			if t := line("backupd", point.perFile); len(t.x) > 0 {
				times.lines = append(times.lines, t)
				memory.lines = append(memory.lines, line("backupd", func(p point) float64 { return float64(p.anon) / 1e6 }))
			}
			if f := line("floor", point.perFile); len(f.x) > 0 {
				floors = append(floors, f)
			}
		}
	}
	var w strings.Builder
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="%s">`+"\n", plotWidth, plotHeight, plotGrey)
	w.WriteString("<title>backupd: time per file and memory over the number of files</title>\n")
	legend := times.lines
	times.lines = append(floors, times.lines...)
	times.draw(&w, 60)
	memory.draw(&w, 60+panelWidth+90)
	for i, c := range legend {
		x, y := 60+(i%4)*200, panelTop+panelHeight+46+i/4*18
		fmt.Fprintf(&w, `<path d="M%d %dh34" stroke="%s" stroke-width="2" stroke-dasharray="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			x, y-4, c.colour, c.dash, x+42, y, html.EscapeString(c.name))
	}
	if len(floors) > 0 {
		fmt.Fprintf(&w, `<text x="60" y="%d">thin: tar and zstd (first, restore) and find (unchanged) on the same files</text>`+"\n", plotHeight-10)
	}
	w.WriteString("</svg>\n")
	return w.String()
}

// draw writes a panel whose left edge is at left.
func (p panel) draw(w *strings.Builder, left float64) {
	least, most, top := math.Inf(1), 1.0, 0.0
	for _, c := range p.lines {
		least, most, top = min(least, slices.Min(c.x)), max(most, slices.Max(c.x)), max(top, slices.Max(c.y))
	}
	least = math.Min(least, most/10)
	step := niceStep(top)
	top = step * math.Ceil(top/step)
	x := func(v float64) float64 { return left + panelWidth*math.Log(v/least)/math.Log(most/least) }
	y := func(v float64) float64 { return panelTop + panelHeight*(1-v/top) }
	fmt.Fprintf(w, `<text x="%.0f" y="%d" font-weight="bold">%s, %s</text>`+"\n", left, panelTop-16, html.EscapeString(p.title), p.unit)
	for v := 0.0; v <= top*1.001; v += step {
		fmt.Fprintf(w, `<path d="M%.1f %.1fh%d" stroke="%s" stroke-opacity="0.35"/><text x="%.1f" y="%.1f" text-anchor="end">%g</text>`+"\n", left, y(v), panelWidth, plotGrey, left-8, y(v)+4, v)
	}
	for v := math.Pow(10, math.Ceil(math.Log10(least)-1e-9)); v <= most*1.001; v *= 10 {
		fmt.Fprintf(w, `<path d="M%.1f %dv5" stroke="%s"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(v), panelTop+panelHeight, plotGrey, x(v), panelTop+panelHeight+19, countText(v))
	}
	for _, c := range p.lines {
		var path strings.Builder
		width, dot := 2.0, 3.0
		if c.thin {
			width, dot = 0.8, 1.5
		}
		for i := range c.x {
			fmt.Fprintf(&path, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[i == 0], x(c.x[i]), y(c.y[i]))
			fmt.Fprintf(w, `<circle cx="%.1f" cy="%.1f" r="%g" fill="%s"/>`+"\n", x(c.x[i]), y(c.y[i]), dot, c.colour)
		}
		fmt.Fprintf(w, `<path d="%s" fill="none" stroke="%s" stroke-width="%g" stroke-dasharray="%s"/>`+"\n", path.String(), c.colour, width, c.dash)
	}
}

// niceStep divides an axis up to top into four to eight round steps.
func niceStep(top float64) float64 {
	if top <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(top)))
	for _, s := range []float64{0.2, 0.5, 1} {
		if top/(s*unit) <= 8 {
			return s * unit
		}
	}
	return 2 * unit
}

// countText is a power of ten for people.
func countText(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%g million", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%g k", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}
