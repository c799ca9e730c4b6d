/**
 * The rules of docs/STYLE.md that a tool can check: each import rule proved by planted violations, then the real tree
 * held to all of them; and the decisions that must be written down (dependencies, long files).
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..');
/** Lines of a source file above which a decision record must name it. */
const FILE_LINES_MAX = 450;
/** Lines above which none can. */
const NAMED_FILE_LINES_MAX = 700;

/** Paths, relative to the root and with `/`, of the files below `folders` whose name ends in one of `endings`. */
function filesBelow(folders: readonly string[], endings: readonly string[]): string[] {
  return folders.flatMap((folder) => {
    let names: string[] = [];
    try {
      names = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    return names
      .filter((name) => endings.some((ending) => name.endsWith(ending)))
      .map((name) => join(folder, name).split(sep).join('/'));
  });
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

interface Diagnostic {
  readonly file: string;
  readonly category: string;
  readonly message: string;
}

/** What `biome lint` with the given options finds in `folder`. */
function lint(folder: string, ...options: readonly string[]): Diagnostic[] {
  const biome = join(ROOT, 'node_modules', '@biomejs', 'biome', 'bin', 'biome');
  const argv = [biome, 'lint', '--reporter=json', '--max-diagnostics=none', ...options, '.'];
  let output: string;
  try {
    output = execFileSync(process.execPath, argv, {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  } catch (error) {
    output = (error as { stdout: string }).stdout;
  }
  const report = JSON.parse(output) as {
    diagnostics: { category: string; message: string; location: { path: string } }[];
  };
  return report.diagnostics.map(({ category, message, location }) => ({
    file: relative(folder, join(folder, location.path)).split(sep).join('/'),
    category,
    message,
  }));
}

const RESTRICTED = 'lint/style/noRestrictedImports';
const UNDECLARED = 'lint/correctness/noUndeclaredDependencies';
const CYCLE = 'lint/suspicious/noImportCycles';
/** Not an import rule, but easily lost: Biome may rename it with any version, and then says nothing. */
const FLOATING = 'lint/nursery/noFloatingPromises';
const POINTLESS_AWAIT = 'lint/nursery/useAwaitThenable';
const INEXHAUSTIVE = 'lint/nursery/useExhaustiveSwitchCases';

/** One file each: the rule it breaks, where it lies, what it says. */
const VIOLATIONS: readonly (readonly [rule: string, file: string, code: string])[] = [
  ['R1', 'broker/planted-door.ts', "export { a } from '../gateways/log.ts';"],
  ['R1', 'broker/planted-package.ts', "export { a } from 'ws';"],
  ['R1', 'broker/planted-type.ts', "export type { a } from 'pino';"],
  ['R1', 'broker/planted-node.ts', "export { readFileSync } from 'node:fs';"],
  ['R1', 'broker/planted-dynamic.ts', "export const a = import('node:net');"],
  ['R1', 'broker/planted-detour.ts', "export { a } from './matchers/../../gateways/log.ts';"],
  ['R1', 'broker/planted-dot.ts', "export { a } from './../gateways/log.ts';"],
  ['R1', 'broker/matchers/planted-door.ts', "export { a } from '../../gateways/log.ts';"],
  ['R1', 'broker/matchers/planted-node.ts', "export { connect } from 'node:net';"],
  ['R1', 'broker/matchers/planted-detour.ts', "export { a } from '../matchers/../../gateways/log.ts';"],
  ['R1', 'broker/storage/planted-door.ts', "export { a } from '../../gateways/log.ts';"],
  ['R1', 'broker/storage/log/planted-door.ts', "export { a } from '../../../gateways/log.ts';"],
  ['R1', 'broker/storage/log/planted-detour.ts', "export { a } from '../folder/../../../gateways/log.ts';"],
  ['R1', 'broker/storage/log/planted-other.ts', "export { a } from '../../queue/../../gateways/log.ts';"],
  ['R2', 'gateways/stomp/planted-door.ts', "export { a } from '../amqp/session.ts';"],
  ['R2', 'gateways/stomp/planted-main.ts', "export { a } from '../main.ts';"],
  ['R2', 'gateways/stomp/planted-core.ts', "export { a } from '../../broker/queue/queue.ts';"],
  ['R2', 'gateways/stomp/planted-matcher.ts', "export { a } from '../../broker/matchers/topic.ts';"],
  ['R2', 'gateways/stomp/planted-bench.ts', "export { a } from '../../bench/load.ts';"],
  ['R2', 'gateways/stomp/planted-detour.ts', "export { a } from './../amqp/session.ts';"],
  ['R2', 'gateways/stomp/frames/planted-door.ts', "export { a } from '../../amqp/session.ts';"],
  ['R2', 'gateways/stomp/frames/planted-core.ts', "export { a } from '../../../broker/queue/queue.ts';"],
  ['R2', 'gateways/commands/planted-door.ts', "export { a } from '../amqp/session.ts';"],
  ['R2', 'gateways/commands/planted-main.ts', "export { a } from '../main.ts';"],
  ['R2', 'gateways/commands/planted-test.ts', "export { a } from '../../test/support/eventually.ts';"],
  ['R2', 'gateways/commands/planted-detour.ts', "export { a } from '../../broker/../test/support/eventually.ts';"],
  [UNDECLARED, 'gateways/stomp/planted-package.ts', "export { a } from 'not-in-package-json';"],
  ['R3', 'gateways/planted-door.ts', "export { a } from './amqp/session.ts';"],
  ['R3', 'gateways/planted-main.ts', "export { a } from './main.ts';"],
  ['R3', 'gateways/planted-core.ts', "export { a } from '../broker/queue/queue.ts';"],
  ['R3', 'gateways/planted-detour.ts', "export { a } from '../gateways/amqp/session.ts';"],
  ['R4', 'examples/planted-core.ts', "export { a } from '../broker/index.ts';"],
  ['R4', 'examples/toy/planted-core.ts', "export { a } from '../../broker/index.ts';"],
  ['R4', 'examples/toy/planted-dist.ts', "export { a } from '../../dist/broker/index.js';"],
  [CYCLE, 'broker/planted-cycle-a.ts', "import { b } from './planted-cycle-b.ts';\nexport const a = () => b;"],
  [CYCLE, 'broker/planted-cycle-b.ts', "import { a } from './planted-cycle-a.ts';\nexport const b = () => a;"],
  ['R1', 'broker/planted-test.ts', "export { a } from '../test/support/eventually.ts';"],
  ['R3', 'gateways/planted-test.ts', "export { a } from '../test/support/eventually.ts';"],
  ['R6', 'gateways/main.ts', "export { a } from '../test/support/eventually.ts';"],
  [UNDECLARED, 'gateways/planted-development.ts', "export { test } from 'vitest';"],
  [
    FLOATING,
    'broker/planted-promise.ts',
    "import { later } from './innocent-promise.ts';\nexport function a(): void {\n  later();\n}",
  ],
  [
    FLOATING,
    'gateways/stomp/planted-promise.ts',
    "import type { Later } from '../../broker/port.ts';\nexport function a(later: Later): void {\n  later.go();\n}",
  ],
  [
    POINTLESS_AWAIT,
    'broker/planted-await.ts',
    'export async function a(b: number): Promise<number> {\n  return await b;\n}',
  ],
  [
    INEXHAUSTIVE,
    'broker/planted-switch.ts',
    "export function a(b: 'x' | 'y'): void {\n  switch (b) {\n    case 'x':\n      break;\n  }\n}",
  ],
  ['R7', 'scripts/planted-package.ts', "export { a } from 'ws';"],
  ['R7', 'scripts/planted-shipped.ts', "export { a } from '../dist/gateways/config.js';"],
];

/** What must stay allowed, so that the rules above are not merely refusing everything. */
const ALLOWED: readonly (readonly [file: string, code: string])[] = [
  ['broker/innocent.ts', "export { a } from './queue.ts';\nexport { b } from './matchers/topic.ts';"],
  ['broker/matchers/innocent.ts', "export type { a } from '../port.ts';\nexport { b } from './topic.ts';"],
  ['broker/storage/innocent.ts', "export { open } from 'node:fs/promises';\nexport type { a } from '../store.ts';"],
  ['broker/storage/log/innocent.ts', "export { a } from '../../store.ts';\nexport { b } from '../folder/files.ts';"],
  [
    'gateways/stomp/innocent.ts',
    "export { a } from './codec.ts';\nexport { b } from '../outbox.ts';\nexport { c } from '../../broker/message.ts';\nexport { WebSocket } from 'ws';\nexport { connect } from 'node:net';\nexport type { d } from '../../broker/port.ts';",
  ],
  [
    'gateways/stomp/frames/innocent.ts',
    "export { a } from '../codec.ts';\nexport { b } from '../../outbox.ts';\nexport { c } from '../../../broker/port.ts';",
  ],
  [
    'gateways/innocent.ts',
    "export { a } from './log.ts';\nexport { b } from '../broker/port.ts';\nexport { pino } from 'pino';\nexport { createServer } from 'node:tls';",
  ],
  ['examples/toy/innocent.ts', "export { createBroker } from 'warren';\nexport { a } from './page.ts';"],
  ['broker/innocent-types-a.ts', "import type { B } from './innocent-types-b.ts';\nexport type A = B | 1;"],
  ['broker/innocent-types-b.ts', "import type { A } from './innocent-types-a.ts';\nexport type B = A[];"],
  ['broker/port.ts', 'export interface Later {\n  go(): Promise<void>;\n}'],
  ['broker/innocent-promise.ts', 'export async function later(): Promise<void> {}'],
  [
    'broker/innocent-void.ts',
    "import { later } from './innocent-promise.ts';\nexport function a(): void {\n  void later();\n}",
  ],
  ['scripts/innocent.ts', "export { spawn } from 'node:child_process';"],
  ['test/innocent.ts', "export { a } from '../gateways/amqp/session.ts';\nexport { test } from 'vitest';"],
];

describe('the import rules, by planted violations', () => {
  let folder: string;
  let found: Diagnostic[];

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'warren-architecture-'));
    for (const file of ['biome.json', 'package.json', '.gitignore']) copyFileSync(join(ROOT, file), join(folder, file));
    const planted = [...VIOLATIONS.map(([, file, code]) => [file, code] as const), ...ALLOWED];
    for (const [file, code] of planted) {
      mkdirSync(dirname(join(folder, file)), { recursive: true });
      writeFileSync(join(folder, file), `${code}\n`);
    }
    found = lint(folder);
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.each(VIOLATIONS)('%s: %s is refused', (rule, file) => {
    const here = found.filter((diagnostic) => diagnostic.file === file);
    expect(here).toHaveLength(1);
    if (rule.startsWith('lint/')) {
      expect(here[0]?.category).toBe(rule);
    } else {
      expect(here[0]?.category).toBe(RESTRICTED);
      expect(here[0]?.message).toMatch(new RegExp(`^${rule}: `));
    }
  });

  test.each(ALLOWED)('%s is allowed', (file) => {
    expect(found.filter((diagnostic) => diagnostic.file === file)).toEqual([]);
  });

  test('every rule of docs/STYLE.md has a planted violation', () => {
    const documented = [...read('docs/STYLE.md').matchAll(/^\| (R\d+) \|/gm)].map((match) => match[1]);
    const planted = new Set(VIOLATIONS.map(([rule]) => (rule === CYCLE ? 'R5' : rule)));
    expect(documented.length).toBeGreaterThanOrEqual(6);
    expect(documented.filter((rule) => rule === undefined || !planted.has(rule))).toEqual([]);
  });
});

/** What Biome does not look at: the type `import('x').T`, require, and what is behind createRequire. */
const HIDDEN_IMPORT =
  /\btypeof\s+import\(|\bimport\(\s*['"][^'"]+['"]\s*\)\s*\.\s*(?!then\b)|(?<![#.\w])require\(|\bcreateRequire\(/;

/** The one file that may use createRequire, and only to find its own package. */
const PACKAGE_FILE = 'gateways/package.ts';

describe('the tree as it is', () => {
  const shipped = filesBelow(['broker', 'gateways'], ['.ts']);

  test('keeps the import rules', () => {
    const rules = [RESTRICTED, UNDECLARED, CYCLE].map((rule) => `--only=${rule.replace('lint/', '')}`);
    expect(lint(ROOT, ...rules)).toEqual([]);
  });

  test('has no import in a form that the import rules cannot see', () => {
    for (const form of ["let a: import('ws').WebSocket;", "let a: typeof import('ws');", "const a = require('ws');"]) {
      expect(HIDDEN_IMPORT.test(form)).toBe(true);
    }
    for (const form of ["const a = await import('ws');", "import('ws').then(use);", "import type { a } from 'ws';"]) {
      expect(HIDDEN_IMPORT.test(form)).toBe(false);
    }
    expect(shipped.filter((file) => HIDDEN_IMPORT.test(read(file)))).toEqual([PACKAGE_FILE]);
    const required = [...read(PACKAGE_FILE).matchAll(/\brequire(?:\.resolve)?\(([^)]*)\)/g)].map(([, name]) => name);
    expect(new Set(required)).toEqual(new Set(["'warren/package.json'"]));
  });

  test('touches the machine only where it may: no node: module in broker/ outside broker/storage/', () => {
    const core = shipped.filter((file) => file.startsWith('broker/') && !file.startsWith('broker/storage/'));
    expect(core.length).toBeGreaterThan(5);
    expect(core.filter((file) => /['"]node:/.test(read(file)))).toEqual([]);
  });

  test('has no folder so deep, and no file so named, that the rules mean nothing there', () => {
    expect(shipped.filter((file) => file.split('/').length > 4)).toEqual([]);
    expect(shipped.filter((file) => /(^|\/)(utils?|helpers?|common|types)\.ts$/.test(file))).toEqual([]);
  });
});

describe('what must be written down', () => {
  const records = filesBelow(['docs/decisions'], ['.md']);
  const written = records.map(read).join('\n');

  test('every runtime dependency has its line in a decision record', () => {
    const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> };
    const lines = written.split('\n').filter((line) => line.startsWith('| `'));
    const missing = Object.entries(dependencies).filter(
      ([name, version]) => !lines.some((line) => line.startsWith(`| \`${name}\` | ${version},`)),
    );
    expect(missing).toEqual([]);
  });

  test(`every file past ${FILE_LINES_MAX} lines is named in a decision record, and none passes ${NAMED_FILE_LINES_MAX}`, () => {
    const sources = filesBelow(['broker', 'gateways', 'examples', 'bench', 'scripts', 'test'], ['.ts', '.mjs', '.js']);
    const long = sources.filter((file) => read(file).split('\n').length > FILE_LINES_MAX + 1);
    expect(long.filter((file) => !written.includes(`\`${file}\``))).toEqual([]);
    expect(long.filter((file) => read(file).split('\n').length > NAMED_FILE_LINES_MAX + 1)).toEqual([]);
  });

  test('decision records have a number each and say context, decision and consequences', () => {
    const numbers = records.map((file) => file.replace('docs/decisions/', '').slice(0, 4));
    expect(numbers.filter((number) => !/^\d{4}$/.test(number))).toEqual([]);
    expect(new Set(numbers).size).toBe(numbers.length);
    for (const file of records) {
      const headings = [...read(file).matchAll(/^## (.+)$/gm)].map((match) => match[1]);
      expect([file, ...headings]).toEqual(expect.arrayContaining([file, 'Context', 'Decision', 'Consequences']));
    }
  });
});
