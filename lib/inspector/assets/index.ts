/*
 * Written by page/generate.mjs: change the files in page/, not this one. A test holds them equal.
 * Knows nothing of any other room. /plot.js is uPlot (MIT, github.com/leeoniya/uPlot), whole.
 * Invariant: what the page needs is here, and nothing that it needs is elsewhere.
 */

import html from './html.ts';
import style from './style.ts';
import script from './script.ts';
import plotStyle from './plot-style.ts';
import plot1 from './plot-1.ts';
import plot2 from './plot-2.ts';

export const ASSETS: Readonly<Record<string, { readonly type: string; readonly text: string }>> = {
  '/': { type: 'html', text: html },
  '/style.css': { type: 'css', text: style },
  '/page.js': { type: 'js', text: script },
  '/plot.css': { type: 'css', text: plotStyle },
  '/plot.js': { type: 'js', text: plot1 + plot2 },
};
