import type { DepthGrid, Cell, Speed } from '@filigree/evaluation';
import { denseRun, depthBins } from '@filigree/evaluation';
import { HeatmapChart, LineChart, type HeatmapSeriesOption, type LineSeriesOption } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent, VisualMapComponent } from 'echarts/components';
import { init, use, type ComposeOption } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { groupBy } from '../group-by.js';

use([HeatmapChart, LineChart, GridComponent, LegendComponent, TitleComponent, VisualMapComponent, SVGRenderer]);

type Option = ComposeOption<HeatmapSeriesOption | LineSeriesOption>;

/** Told apart by people who do not see red and green, too (Okabe and Ito). */
const palette = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#d55e00', '#56b4e9', '#999933'];
/** Methods beyond the colours are told apart by their points. */
const symbols = ['circle', 'triangle', 'rect', 'diamond'] as const;
const text = '#333';
const axis = { axisLabel: { color: text }, splitLine: { lineStyle: { color: '#e8e8e8' } } };
const named = (name: string, nameGap: number) => ({
  name,
  nameGap,
  nameLocation: 'middle' as const,
  nameTextStyle: { color: text },
});

function svgOf(option: Option, width: number, height: number): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({ animation: false, backgroundColor: '#ffffff', ...option });
    return chart.renderToSVGString();
  } finally {
    chart.dispose();
  }
}

interface Line {
  readonly label: string;
  readonly points: readonly (readonly [length: number, value: number])[];
}

/** Lines over the length, which is on a logarithmic axis: a measured point at each length. */
function linesOverLength(lines: readonly Line[], yName: string, { from }: { readonly from?: number } = {}): string {
  const lengths = [...new Set(lines.flatMap(({ points }) => points.map(([length]) => length)))].sort((a, b) => a - b);
  // A method has one colour in all plots: those of dense attention are black and do not count.
  const others = lines.map(({ label }) => label).filter((label) => label !== denseRun.id);
  const colorOf = (label: string): string =>
    label === denseRun.id ? '#000000' : palette[others.indexOf(label) % palette.length];
  const legendRows = Math.ceil(lines.length / 2);
  return svgOf(
    {
      legend: { top: 0, left: 56, right: 16, itemGap: 40, textStyle: { color: text }, data: lines.map(({ label }) => label) },
      grid: { top: 24 + 26 * legendRows, bottom: 52, left: 64, right: 24 },
      // A category for each measured length: nothing between them was measured.
      xAxis: {
        type: 'category',
        data: lengths.map((length) => length.toLocaleString('en-US')),
        ...named('tokens', 30),
        ...axis,
      },
      yAxis: { type: 'value', scale: from === undefined, min: from, ...named(yName, 44), ...axis },
      series: lines.map(({ label, points }) => ({
        type: 'line',
        name: label,
        symbol: symbols[Math.floor(Math.max(0, others.indexOf(label)) / palette.length) % symbols.length],
        symbolSize: 8,
        itemStyle: { color: colorOf(label) },
        lineStyle: { color: colorOf(label), width: 2 },
        data: lengths.map((length) => points.find(([own]) => own === length)?.[1] ?? null),
      })),
    },
    900,
    340 + 26 * legendRows,
  );
}

const byLabel = <T extends { readonly label: string }>(items: readonly T[]): Map<string, T[]> =>
  groupBy(items, ({ label }) => label);

/** Dense time over time, of prompts or of decode steps. */
export function speedPlot(speeds: readonly Speed[], phase: 'prefill' | 'decode'): string | undefined {
  const lines = [...byLabel(speeds)].flatMap(([label, own]): Line[] => {
    const points = own.flatMap(({ length, prefillRatio, decodeRatio }) => {
      const ratio = phase === 'prefill' ? prefillRatio : decodeRatio;
      return ratio ? [[length, ratio.mean] as const] : [];
    });
    return points.length > 0 ? [{ label, points }] : [];
  });
  return lines.length === 0 ? undefined : linesOverLength(lines, 'times as fast as dense', { from: 0 });
}

/** Score over length of one task. */
export function scorePlot(cells: readonly Cell[]): string {
  const bits = cells[0].task.reading === 'bits';
  const lines = [...byLabel(cells)].map(([label, own]) => ({
    label,
    points: own.map(({ length, score }) => [length, score.mean] as const),
  }));
  return linesOverLength(lines, bits ? 'bits per token' : 'score', bits ? {} : { from: 0 });
}

const gridWidth = 280;
const gridHeight = 250;
const columns = 3;

/** Score by depth and length: a panel for every method. */
export function depthPlot(grids: readonly DepthGrid[]): string {
  const rows = Math.ceil(grids.length / columns);
  const place = (index: number) => ({
    left: 56 + (index % columns) * (gridWidth + 24),
    top: 40 + Math.floor(index / columns) * gridHeight,
    width: gridWidth - 56,
    height: gridHeight - 92,
  });
  return svgOf(
    {
      title: grids.map(({ label }, index) => ({
        text: label,
        left: place(index).left,
        top: place(index).top - 26,
        textStyle: { fontSize: 12, color: text, width: gridWidth - 40, overflow: 'truncate' },
      })),
      grid: grids.map((_, index) => place(index)),
      xAxis: grids.map(({ lengths }, gridIndex) => ({
        gridIndex,
        type: 'category',
        data: lengths.map((length) => length.toLocaleString('en-US')),
        axisLabel: { color: text, fontSize: 10 },
        ...named('tokens', 24),
      })),
      yAxis: grids.map((_, gridIndex) => ({
        gridIndex,
        type: 'category',
        inverse: true,
        data: Array.from({ length: depthBins }, (__, bin) => `${(100 * bin) / depthBins}`),
        axisLabel: { color: text, fontSize: 10 },
        ...named('depth, %', 30),
      })),
      visualMap: {
        ...{ type: 'continuous', min: 0, max: 1, calculable: false, orient: 'horizontal', left: 56 },
        top: 40 + rows * gridHeight - 14,
        text: ['found', 'missed'],
        textStyle: { color: text },
        // Light to dark: readable in grey.
        inRange: { color: ['#fee8c8', '#fdbb84', '#7fb8da', '#0b5394'] },
      },
      series: grids.map(({ scores }, index) => ({
        type: 'heatmap',
        xAxisIndex: index,
        yAxisIndex: index,
        itemStyle: { borderColor: '#ffffff', borderWidth: 1 },
        data: scores.flatMap((column, length) =>
          column.flatMap((score, bin) => (score === null ? [] : [[length, bin, score]])),
        ),
      })),
    },
    56 + columns * (gridWidth + 24),
    40 + rows * gridHeight + 44,
  );
}
