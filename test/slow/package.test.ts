/** The package as a stranger gets it: packed, installed into an empty folder, imported, type-checked and started. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');
const run = promisify(execFile);

/** A program that uses the broker, written in TypeScript without any `@types` package. */
const PROGRAM = `
import { type Broker, BrokerError, createBroker, createMessage } from 'warren';

const broker: Broker = await createBroker();
const connection = await broker.connect();
const channel = connection.openChannel();
await channel.declareQueue({ queue: 'tasks' });
channel.publish(createMessage({ routingKey: 'tasks', body: 'work' }));
const got = await channel.get('tasks');
const refused = await channel.get('nothing').catch((error: unknown) => error);
export const answer: string = [got?.message.bodyBytes, refused instanceof BrokerError && refused.kind].join();
await broker.close();
`;

const DOORS = `
import { createBroker } from 'warren';
import { amqpWebSocketDoor, startAmqpGateway } from 'warren/amqp';
import { reverseHttpDoor } from 'warren/reverse-http';
import { startStompGateway } from 'warren/stomp';
import { startWebSocketGateway } from 'warren/websocket';
import { openXmppDoor, startXmppGateway } from 'warren/xmpp';

const broker = await createBroker();
const web = { port: 0, doors: [amqpWebSocketDoor(broker)], httpDoors: [reverseHttpDoor(broker)] };
const gateways = [
  await startAmqpGateway(broker, { port: 0 }),
  await startStompGateway(broker, { port: 0 }),
  await startWebSocketGateway(web),
  await startXmppGateway(await openXmppDoor(broker), { port: 0 }),
];
console.log(gateways.map(({ addresses }) => addresses[0]?.label).join());
for (const gateway of gateways) await gateway.close();
await broker.close();
`;

describe('the packed package', () => {
  let folder: string;
  let packed: readonly string[];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'warren-package-'));
    const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: ROOT });
    const [tarball] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
    if (tarball === undefined) throw new Error('npm pack made nothing');
    packed = tarball.files.map(({ path }) => path);
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'stranger', private: true, type: 'module' }));
    const install = ['install', '--no-audit', '--no-fund', '--prefer-offline', join(folder, tarball.filename)];
    await run('npm', install, { cwd: folder });
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('holds what is shipped and nothing else', () => {
    expect(packed).toEqual(
      expect.arrayContaining(['LICENSE', 'NOTICE', 'README.md', 'CHANGELOG.md', 'dist/broker/index.js']),
    );
    const shipped =
      /^(dist\/(broker|gateways)\/.+\.(js|d\.ts)|docs\/.+\.md|docs\/images\/.+\.png|examples\/hello\.mjs|LICENSE|NOTICE|README\.md|CHANGELOG\.md|package\.json)$/;
    expect(packed.filter((path) => !shipped.test(path))).toEqual([]);
  });

  test('has what its README.md links to, but for the last section, which is for those who have the sources', () => {
    const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
    const [, read = '', sources = ''] = /^(.*)^## In the repository$(.*)/ms.exec(readme) ?? [];
    const links = (text: string) => [...text.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, target = '']) => target);
    expect(links(read).length).toBeGreaterThan(3);
    const missing = links(read).filter((target) => !packed.some((path) => path === target || path.startsWith(target)));
    expect(missing).toEqual([]);
    expect(links(sources).length).toBeGreaterThan(3);
  });

  test('brings in only its declared runtime dependencies', () => {
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
    };
    const lock = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { dependencies?: Record<string, string> }>;
    };
    expect(lock.packages['node_modules/warren']?.dependencies).toEqual(dependencies);
  });

  test('is imported by a program, whose types are checked without @types/node', async () => {
    mkdirSync(join(folder, 'src'));
    writeFileSync(join(folder, 'src', 'program.ts'), PROGRAM);
    const options = ['--strict', '--exactOptionalPropertyTypes', '--module', 'nodenext', '--target', 'es2023'];
    const emit = ['--types', '', '--lib', 'es2023', '--outDir', 'built', '--rootDir', 'src', 'src/program.ts'];
    const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
    await run(process.execPath, [compiler, ...options, ...emit], { cwd: folder });
    const print = "import { answer } from './built/program.js'; console.log(answer);";
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', print], { cwd: folder });
    expect(stdout).toBe('4,not-found\n');
  });

  test('gives every door to a program, which says no more than the port', async () => {
    writeFileSync(join(folder, 'src', 'doors.ts'), DOORS);
    const options = ['--strict', '--exactOptionalPropertyTypes', '--module', 'nodenext', '--target', 'es2023'];
    const types = ['--typeRoots', join(ROOT, 'node_modules/@types'), '--types', 'node'];
    const emit = ['--outDir', 'built', '--rootDir', 'src', 'src/doors.ts'];
    const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
    await run(process.execPath, [compiler, ...options, ...types, ...emit], { cwd: folder });
    const { stdout } = await run(process.execPath, [join('built', 'doors.js')], { cwd: folder, timeout: 20_000 });
    expect(stdout).toBe('amqp,stomp,ws,xmpp\n');
  });

  test('loads no third-party code for a program that only imports the broker', async () => {
    const print = `import { register } from 'node:module';
      const names = [];
      const { port1, port2 } = new MessageChannel();
      port1.on('message', (url) => names.push(url)).unref();
      const hooks = "let port; export function initialize(data) { port = data; }" +
        "export async function resolve(s, c, n) { const r = await n(s, c); port.postMessage(r.url); return r; }";
      register('data:text/javascript,' + encodeURIComponent(hooks), { data: port2, transferList: [port2] });
      await import('warren');
      setImmediate(() => setImmediate(() => console.log(JSON.stringify(names))));`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', print], { cwd: folder });
    const urls = JSON.parse(stdout) as string[];
    expect(urls.length).toBeGreaterThan(5);
    expect(urls.filter((url) => !url.includes('/node_modules/warren/dist/broker/'))).toEqual([]);
  });

  test('brings the command: npx warren --help', async () => {
    const { stdout } = await run('npx', ['--no-install', 'warren', '--help'], { cwd: folder });
    expect(stdout).toContain('Usage: warren');
    for (const flag of ['--config', '--data-dir', '--amqp-port', '--amqps-port', '--host', '--log-level']) {
      expect(stdout).toContain(flag);
    }
  });

  test('starts there, and the command that it prints to try it works there', async () => {
    const command = join(folder, 'node_modules', '.bin', 'warren');
    const argv = ['--amqp-port', '0', '--stomp-port', '0', '--xmpp-port', '0', '--http-port', '0'];
    const warren = spawn(command, argv, { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] });
    const exit = once(warren, 'exit');
    try {
      let printed = '';
      for await (const chunk of warren.stdout.setEncoding('utf8')) {
        printed += chunk;
        if (printed.includes('Server startup complete')) break;
      }
      const commands = [...printed.matchAll(/ try: (.+)$/gm)].map(([, line = '']) => line);
      const answers = [/Warren/, /^CONNECTED/, /stream:stream/, /an HTTP port of a message broker/];
      expect(commands).toHaveLength(answers.length);
      for (const [index, line] of commands.entries()) {
        const { stdout } = await run('sh', ['-c', line], { cwd: folder, timeout: 20_000 });
        expect(stdout).toMatch(answers[index] ?? /^$/);
      }
    } finally {
      warren.kill('SIGTERM');
    }
    expect(await exit).toEqual([0, null]);
  });
});
