/** The documents tell the truth: links lead somewhere, paths exist, commands exist, and the examples run. */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, sep } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..');

const NOT_OURS = new Set(['node_modules', 'dist', 'coverage', '.git']);

/** Every Markdown file of the project, relative to the root. */
const DOCUMENTS: readonly string[] = readdirSync(ROOT, { withFileTypes: true })
  .filter((entry) => !NOT_OURS.has(entry.name))
  .flatMap((entry) =>
    entry.isDirectory()
      ? readdirSync(join(ROOT, entry.name), { recursive: true, encoding: 'utf8' }).map((name) => join(entry.name, name))
      : [entry.name],
  )
  .filter((name) => name.endsWith('.md'))
  .map((name) => name.split(sep).join('/'));

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** `text` without fenced code blocks and inline code, where brackets are not links. */
function prose(text: string): string {
  return text.replace(/^```.*?^```/gms, '').replace(/`[^`\n]*`/g, '');
}

/** The anchors that GitHub gives to the headings of `text`. */
function anchors(text: string): string[] {
  return [...text.replace(/^```.*?^```/gms, '').matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** What is wrong with the link `target` in the file `document`; undefined when nothing is. */
function linkFault(document: string, target: string): string | undefined {
  if (/^(https?|mailto):/.test(target)) return undefined;
  const [path = '', anchor] = target.split('#');
  const file = path === '' ? document : join(dirname(document), path);
  if (!existsSync(join(ROOT, file))) return `${document}: ${target} leads to no file`;
  if (anchor === undefined || anchors(read(file)).includes(anchor)) return undefined;
  return `${document}: ${target} leads to no heading`;
}

describe('links and names', () => {
  test.each(DOCUMENTS)('every link in %s leads to a file, and to a heading in it', (document) => {
    const targets = [...prose(read(document)).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
    expect(targets.map((target) => linkFault(document, target)).filter(Boolean)).toEqual([]);
  });

  test('a link to nothing would be noticed', () => {
    expect(linkFault('README.md', 'docs/STYLE.md#names')).toBeUndefined();
    expect(linkFault('README.md', 'docs/NOWHERE.md')).toContain('no file');
    expect(linkFault('docs/STYLE.md', '#nowhere')).toContain('no heading');
  });

  test.each(['README.md', 'CONTRIBUTING.md', 'docs/STYLE.md'])('every npm script named in %s exists', (document) => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const named = [...read(document).matchAll(/\bnpm (?:run ([\w:-]+)|(start|test)\b)/g)].map(
      ([, run, short]) => run ?? short ?? '',
    );
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
    expect(named.length).toBeGreaterThan(0);
  });

  test.each(['README.md', 'CONTRIBUTING.md'])('%s asks for the Node that package.json asks for', (document) => {
    const { engines } = JSON.parse(read('package.json')) as { engines: { node: string } };
    const versions = engines.node.match(/\d+\.\d+/g) ?? [];
    expect(versions.length).toBeGreaterThan(0);
    expect(read(document).match(/(?<=\bNode\b.*)\b\d{2}\.\d+/g)).toEqual(versions);
  });

  // The changelog and the decisions are history: they may name what is gone.
  const present = DOCUMENTS.filter((document) => !/^CHANGELOG|^docs\/decisions/.test(document));

  test.each(present)('every file of this tree that %s names exists', (document) => {
    const paths = [
      ...read(document).matchAll(/`((?:broker|gateways|test|bench|scripts|docs|docker|examples)\/[\w./-]*\.\w+)`/g),
    ].map(([, path = '']) => path);
    expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });
});

/**
 * The rows of the map in docs/ARCHITECTURE.md: the folder that the first name of a row is in (or is, when it ends in `/`),
 * and every source file that the row names.
 */
function mapRows(): readonly { readonly folder: string; readonly files: readonly string[] }[] {
  const [, map = ''] = /^## The map$(.*?)^## /ms.exec(read('docs/ARCHITECTURE.md')) ?? [];
  return [...map.matchAll(/^\| `(.*)$/gm)].map(([, row = '']) => {
    const [first = '', ...rest] = row.split('`').filter((_, index) => index % 2 === 0);
    const folder = first.endsWith('/') ? first.slice(0, -1) : dirname(first);
    const names = [first, ...rest].filter((name) => name.endsWith('.ts'));
    return { folder, files: names.map((name) => join(folder, basename(name)).split(sep).join('/')) };
  });
}

describe('the map in docs/ARCHITECTURE.md', () => {
  const mapped = mapRows().flatMap(({ files }) => files);

  test('names every source file of the broker and its doors, each with its folder', () => {
    const sources = ['broker', 'gateways'].flatMap((folder) =>
      readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
    );
    const paths = sources.filter((name) => name.endsWith('.ts')).map((name) => name.split(sep).join('/'));
    expect(paths.length).toBeGreaterThan(50);
    expect(paths.filter((path) => !mapped.includes(path))).toEqual([]);
  });

  test('names none that is not there, and none twice', () => {
    expect(mapped.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
    expect(mapped.filter((path, index) => mapped.indexOf(path) !== index)).toEqual([]);
  });
});

interface Example {
  readonly language: string;
  readonly code: string;
  /** What the example says that it prints, if it says so. */
  readonly prints: string | undefined;
}

/** The code blocks of `text` behind a `<!-- run -->`, each with the block behind a `<!-- prints -->` that follows it. */
function examples(text: string): Example[] {
  const block = /<!-- (run|prints) -->\s*^```(\w+)\n(.*?)^```/gms;
  const found: { language: string; code: string; prints: string | undefined }[] = [];
  for (const [, marker, language = '', code = ''] of text.matchAll(block)) {
    const last = found.at(-1);
    if (marker === 'run') found.push({ language, code, prints: undefined });
    else if (last !== undefined) last.prints = code;
  }
  return found;
}

describe('the examples that say that they run', () => {
  const found = DOCUMENTS.flatMap((document) => examples(read(document)).map((example) => ({ ...example, document })));
  let folder: string;

  beforeAll(() => {
    // Somebody's program, elsewhere, with this package installed.
    folder = mkdtempSync(join(tmpdir(), 'warren-readme-'));
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(ROOT, join(folder, 'node_modules', 'warren'), 'dir');
    mkdirSync(join(folder, 'node_modules', '@cloudamqp'));
    const client = '@cloudamqp/amqp-client';
    symlinkSync(join(ROOT, 'node_modules', client), join(folder, 'node_modules', client), 'dir');
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('there are some, and the first shows the in-process broker', () => {
    expect(found.length).toBeGreaterThan(1);
    expect(found.some(({ document, code }) => document === 'README.md' && code.includes("from 'warren'"))).toBe(true);
  });

  test.each(found.map((example, index) => [index + 1, example.document, example] as const))(
    'example %i, of %s, prints what it says, against the built package, and its types are right',
    (number, _, { language, code, prints }) => {
      expect(existsSync(join(ROOT, 'dist/broker/index.js')), 'not built: npm run setup').toBe(true);
      const file = join(folder, `example-${number}.${language === 'ts' ? 'mts' : 'mjs'}`);
      writeFileSync(file, code);
      const node = (...argv: readonly string[]) =>
        execFileSync(process.execPath, argv, { cwd: folder, encoding: 'utf8', stdio: 'pipe', timeout: 10_000 });
      const printed = node('--import', import.meta.resolve('tsx'), file);
      if (prints !== undefined) expect(printed).toBe(prints);
      const strict = ['--noEmit', '--strict', '--allowJs', '--checkJs', '--module', 'nodenext', '--target', 'es2023'];
      const types = ['--typeRoots', join(ROOT, 'node_modules/@types'), '--types', 'node'];
      node(join(ROOT, 'node_modules/typescript/bin/tsc'), ...strict, ...types, file);
    },
  );
});
