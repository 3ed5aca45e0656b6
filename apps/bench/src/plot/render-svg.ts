import { BarChart, LineChart, type BarSeriesOption, type LineSeriesOption } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import { init, use, type ComposeOption } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { betterDirection, type BenchRecord } from '../record.js';
import { panelsOf, type Panel, type Series } from './panels.js';

use([BarChart, LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

type Option = ComposeOption<BarSeriesOption | LineSeriesOption>;

/** All lengths in pixels. */
const width = 960;
const margin = { top: 76, bottom: 24, left: 64, right: 32 };
const panelTitle = 30;
const axisHeight = 52;
const lineHeight = 320;
const barHeight = 12;
const barGap = 12;
/** Names of works are broken beyond the one and have the other: text is measured without fonts here, which may be a fifth off. */
const nameWidth = 270;
const nameSpace = 340;

/** Told apart by people who do not see red and green, too (Okabe and Ito). */
const palette = ['#0072b2', '#e69f00', '#56b4e9', '#009e73', '#cc79a7', '#d55e00', '#000000'];
const boundColor = '#9a9a9a';

interface Placed extends Panel {
  readonly top: number;
  readonly height: number;
}

/** Panels below each other. */
function place(panels: readonly Panel[]): { placed: Placed[]; height: number } {
  let top = margin.top;
  const placed = panels.map((panel) => {
    const bars = panel.works && panel.works.length * (panel.series.length * barHeight + barGap);
    const one = { ...panel, top: top + panelTitle, height: bars ?? lineHeight };
    top = one.top + one.height + axisHeight;
    return one;
  });
  return { placed, height: top + margin.bottom };
}

function seriesOption(
  { name, boundOf, points }: Series,
  { works }: Panel,
  index: number,
  color: string,
): LineSeriesOption | BarSeriesOption {
  const place = { name, xAxisIndex: index, yAxisIndex: index, itemStyle: { color } };
  if (works) return { ...place, type: 'bar', barWidth: barHeight - 2, data: points.map(([work, value]) => [value, work]) };
  return {
    ...place,
    type: 'line',
    data: points.map(([x, y]) => [x, y]),
    symbol: boundOf === null ? 'circle' : 'none',
    symbolSize: 7,
    lineStyle: { color, width: 2, type: boundOf === null ? 'solid' : 'dashed' },
  };
}

/** The records of one suite as an SVG image: what the machine allows is dashed on lines, grey as bars. */
export function renderSvg(title: string, records: readonly BenchRecord[]): string {
  const { placed, height } = place(panelsOf(records));
  const names = [
    ...new Set(placed.flatMap(({ series }) => series.filter(({ boundOf }) => boundOf === null).map(({ name }) => name))),
  ];
  const colorOf = ({ name, boundOf }: Series, { works }: Panel): string =>
    boundOf !== null && works ? boundColor : palette[names.indexOf(boundOf ?? name) % palette.length];
  const axisName = { nameLocation: 'middle', nameTextStyle: { color: '#333' } } as const;
  const axisLine = { axisLabel: { color: '#333' }, splitLine: { lineStyle: { color: '#e4e4e4' } } };
  const cpus = [...new Set(records.map(({ cpu }) => cpu))].join('; ');
  const option: Option = {
    animation: false,
    backgroundColor: '#ffffff',
    title: [
      { text: title, subtext: cpus, left: margin.left, top: 8, textStyle: { fontSize: 14 }, itemGap: 4 },
      ...placed.map((panel) => ({
        text: panel.title,
        left: margin.left,
        top: panel.top - panelTitle + 4,
        textStyle: { fontSize: 13 },
      })),
    ],
    legend: {
      top: 52,
      left: margin.left,
      itemGap: 48,
      data: [...new Set(placed.flatMap(({ series }) => series.map(({ name }) => name)))],
    },
    grid: placed.map(({ top, height: tall, works }) => ({
      top,
      height: tall,
      left: works ? nameSpace : margin.left,
      right: margin.right,
    })),
    xAxis: placed.map(({ works, unit }, gridIndex) =>
      works
        ? {
            gridIndex,
            type: 'value',
            name: `${unit}, ${betterDirection(unit)} is better`,
            nameGap: 26,
            ...axisName,
            ...axisLine,
          }
        : { gridIndex, type: 'log', logBase: 2, name: 'tokens in the cache', nameGap: 26, ...axisName, ...axisLine },
    ),
    yAxis: placed.map(({ works, unit }, gridIndex) =>
      works
        ? {
            gridIndex,
            type: 'category',
            data: [...works],
            inverse: true,
            axisTick: { show: false },
            axisLabel: { color: '#333', interval: 0, width: nameWidth, overflow: 'break' },
          }
        : { gridIndex, type: 'value', min: 0, name: unit, nameGap: 44, ...axisName, ...axisLine },
    ),
    series: placed.flatMap((panel, index) =>
      panel.series.map((series) => seriesOption(series, panel, index, colorOf(series, panel))),
    ),
  };
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption(option);
    return chart.renderToSVGString();
  } finally {
    chart.dispose();
  }
}
