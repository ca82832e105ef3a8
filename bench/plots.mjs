// Draws the two plots of docs/scale.md from results.json with Vega-Lite.
// Invariant: a bar shows the median and its line the range, of the same data as the table.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as vega from 'vega';
import { compile } from 'vega-lite';
import { spread } from './statistics.mjs';

const names = {
  ours: 'sse-router',
  net: 'bare net socket',
  socket: 'bare, on Express’ socket',
  http: 'bare node:http',
  express: 'bare Express',
};

export async function draw(scenarios, folder) {
  await mkdir(folder, { recursive: true });
  for (const name of ['fan-out', 'burst']) {
    const scenario = scenarios.find((one) => one.name === name);
    if (scenario !== undefined) await writeFile(join(folder, `${name}.svg`), await svg(scenario));
  }
}

async function svg(scenario) {
  const view = new vega.View(vega.parse(compile(chart(scenario)).spec), { renderer: 'none' });
  const text = await view.toSVG();
  view.finalize();
  return text + '\n';
}

function chart({ title, size, samples, refused }) {
  const values = Object.entries(samples)
    .filter(([peer]) => !(peer in refused))
    .map(([peer, taken]) => {
      const { median, min, max } = spread(taken, 'cpu');
      return { peer: names[peer] ?? peer, kind: kindOf(peer), median, min, max, label: label(median) };
    });
  const order = values.toSorted((a, b) => a.median - b.median).map(({ peer }) => peer);
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: {
      text: title,
      // Two lines, because Vega without a canvas overestimates the width of text.
      subtitle: [
        'CPU µs of the server per delivered event, less is better',
        `${size.connections} connections, ${size.bytes}-byte events`,
      ],
      anchor: 'start',
    },
    width: 480,
    height: { step: 26 },
    // White, because GitHub also shows the file on a dark page.
    background: 'white',
    padding: 12,
    data: { values },
    encoding: { y: { field: 'peer', type: 'nominal', sort: order, title: null } },
    layer: [
      {
        mark: { type: 'bar', height: 16 },
        encoding: {
          x: { field: 'median', type: 'quantitative', title: 'µs, median; the line is the range of the rounds' },
          color: {
            field: 'kind',
            type: 'nominal',
            legend: null,
            scale: { domain: ['ours', 'bare', 'library'], range: ['#1f6feb', '#b6bec9', '#d9a15b'] },
          },
        },
      },
      {
        mark: { type: 'rule', color: '#333' },
        encoding: { x: { field: 'min', type: 'quantitative' }, x2: { field: 'max' } },
      },
      {
        mark: { type: 'text', align: 'left', dx: 6 },
        encoding: { x: { field: 'max', type: 'quantitative' }, text: { field: 'label' } },
      },
    ],
    config: { font: 'system-ui, sans-serif', view: { stroke: null }, axis: { grid: false } },
  };
}

function kindOf(peer) {
  if (peer === 'ours') return 'ours';
  return peer in names ? 'bare' : 'library';
}

const label = (value) => value.toFixed(value < 1 ? 2 : 1);
