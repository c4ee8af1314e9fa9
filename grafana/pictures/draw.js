// Draws every dashboard into a directory: node draw.js PROMETHEUS-URL DIRECTORY JOBS.json
// JOBS: a list of {name, dashboard, from, to, variables}.

import { readFile, mkdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const BUILD = join(HERE, 'build');
const DASHBOARDS = join(HERE, '..', 'dashboards');
const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.woff2': 'font/woff2' };
const PAGE = '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/build/page.css"><div id="root"></div><script type="module" src="/build/page.js"></script>';

function bundle() {
  return build({
    entryPoints: [join(HERE, 'page.jsx')],
    outdir: BUILD,
    bundle: true,
    format: 'esm',
    jsx: 'automatic',
    minify: true,
    logLevel: 'error',
    define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
    loader: { '.woff': 'file', '.woff2': 'file', '.ttf': 'file', '.svg': 'text' },
  });
}

async function answer(prometheus, path, response) {
  if (path.startsWith('/api/')) {
    const body = await (await fetch(prometheus + path)).text();
    return response.writeHead(200, { 'Content-Type': 'application/json' }).end(body);
  }
  const file = normalize(decodeURIComponent(path.split('?')[0]));
  if (file === '/') {
    return response.writeHead(200, { 'Content-Type': 'text/html' }).end(PAGE);
  }
  const from = file.startsWith('/dashboards/') ? join(DASHBOARDS, '..', file) : join(HERE, file);
  const body = await readFile(from);
  return response.writeHead(200, { 'Content-Type': TYPES[extname(file)] ?? 'image/svg+xml' }).end(body);
}

function serve(prometheus) {
  const server = createServer((request, response) =>
    answer(prometheus, request.url, response).catch((error) => response.writeHead(404).end(String(error)))
  );
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

async function shoot(page, origin, job, directory) {
  const parameters = new URLSearchParams({ dashboard: job.dashboard, from: job.from, to: job.to, ...job.variables });
  await page.goto(`${origin}/?${parameters}`);
  await page.waitForFunction(() => document.body.dataset.error || document.querySelector('#root > *'));
  const error = await page.evaluate(() => document.body.dataset.error);
  if (error) {
    throw new Error(`${job.name}: ${error}`);
  }
  // Tables draw only what is in sight.
  const board = page.locator('#root > div').last();
  const { width, height } = await board.boundingBox();
  await page.setViewportSize({ width: Math.ceil(width), height: Math.ceil(height) });
  // Plots are drawn in the next frames, after fonts have come.
  await page.evaluate(() => document.fonts.ready);
  await page.waitForTimeout(1500);
  const empty = await page.locator('.no-data').allTextContents();
  await board.screenshot({ path: join(directory, `${job.name}.png`) });
  return empty;
}

async function main([prometheus, directory, list]) {
  const jobs = JSON.parse(await readFile(list, 'utf8'));
  await bundle();
  await mkdir(directory, { recursive: true });
  const server = await serve(prometheus);
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  const page = await browser.newPage({ viewport: { width: 1416, height: 900 } });
  page.on('pageerror', (error) => console.error(`page: ${error}`));
  let complete = true;
  for (const job of jobs) {
    const empty = await shoot(page, `http://127.0.0.1:${server.address().port}`, job, directory);
    console.log(`${job.name}.png${empty.length ? ` without data: ${empty.join('; ')}` : ''}`);
    complete &&= empty.length === 0;
  }
  await browser.close();
  server.close();
  process.exitCode = complete ? 0 : 1;
}

await main(process.argv.slice(2));
