import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../../gateways/config.ts';
import { type Config, defaultText, OPTION_NAMES, OPTIONS, type Option, spelled } from '../../../gateways/options.ts';
import { optionTables } from '../../support/option-tables.ts';

type Environment = Record<string, string>;

async function configOf(words: readonly string[], environment: Environment = {}): Promise<Config> {
  const request = await readConfig(words, environment);
  if (!request.run) throw new Error(`printed instead: ${request.text}`);
  return request.config;
}

async function printed(words: readonly string[]): Promise<string> {
  const request = await readConfig(words, {});
  if (request.run) throw new Error('nothing was printed');
  return request.text;
}

/** A configuration file; answers its folder and its path. */
function toml(content: string): { folder: string; file: string } {
  const folder = mkdtempSync(join(tmpdir(), 'warren-config-'));
  const file = join(folder, 'warren.toml');
  writeFileSync(file, content);
  return { folder, file };
}

/** The lines of the error, which is the whole message of a process that refuses to start. */
async function problems(words: readonly string[], environment: Environment = {}): Promise<string[]> {
  const error = await readConfig(words, environment).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ name: 'ConfigError' });
  return error instanceof Error ? error.message.split('\n') : [];
}

describe('the configuration', () => {
  it('listens on this machine only, with the ports that clients know, unless told otherwise', async () => {
    expect(await configOf([])).toMatchObject({
      host: '127.0.0.1',
      amqpPort: 5672,
      amqpsPort: 5671,
      httpPort: [8080, 15674],
      httpsPort: [8443, 15673],
      dataDir: join(process.cwd(), 'warren-data'),
      defaultUser: 'guest',
      loopbackUsers: ['guest'],
      websocketOrigins: ['loopback'],
      proxyProtocolSources: [],
      config: undefined,
      tlsCertificateFile: undefined,
    });
  });

  it('cannot be changed once it is read', async () => {
    expect(Object.isFrozen(await configOf([]))).toBe(true);
  });

  it('takes the command line first, then the environment, then the file, then the default', async () => {
    const { file } = toml('amqp-port = 1\nhttp-port = 1\nheartbeat-seconds = 1\n');
    const environment = { WARREN_CONFIG: file, WARREN_AMQP_PORT: '2', WARREN_HTTP_PORT: '2' };
    const config = await configOf(['--amqp-port', '3'], environment);
    expect([config.amqpPort, config.httpPort, config.heartbeatSeconds, config.channelsMax]).toEqual([3, [2], 1, 2047]);
  });

  it("takes RABBITMQ_DEFAULT_USER, _PASS and _VHOST, after WARREN's own", async () => {
    const rabbit = { RABBITMQ_DEFAULT_USER: 'ann', RABBITMQ_DEFAULT_PASS: 'secret', RABBITMQ_DEFAULT_VHOST: 'shop' };
    expect(await configOf([], rabbit)).toMatchObject({
      defaultUser: 'ann',
      defaultPass: 'secret',
      defaultVhost: 'shop',
    });
    expect(await configOf([], { ...rabbit, WARREN_DEFAULT_USER: 'bob' })).toMatchObject({ defaultUser: 'bob' });
  });

  it('treats an empty environment variable as none, as Compose passes unset ones', async () => {
    expect(await configOf([], { WARREN_AMQP_PORT: '', RABBITMQ_DEFAULT_USER: '' })).toMatchObject({
      amqpPort: 5672,
      defaultUser: 'guest',
    });
  });

  it.each([
    ['"off"', []],
    ['0', [0]],
    ['"8080, 15674"', [8080, 15674]],
    ['[8080, "15674"]', [8080, 15674]],
    ['"0,0"', [0, 0]],
  ])('takes ports as %s', async (written, ports) => {
    const { file } = toml(`http-port = ${written}`);
    expect((await configOf(['--config', file])).httpPort).toEqual(ports);
  });

  it.each([
    ['https://broker.example', 'https://broker.example'],
    ['http://broker.example:8080/', 'http://broker.example:8080'],
  ])('takes the base of URLs as %s', async (written, origin) => {
    expect((await configOf(['--reverse-http-base-url', written])).reverseHttpBaseUrl).toBe(origin);
  });

  it.each(['broker.example', 'ftp://x', 'https://x/path', 'https://a:b@x'])('takes no base as %s', async (written) => {
    expect(await problems(['--reverse-http-base-url', written])).toEqual([expect.stringContaining('is not allowed')]);
  });

  it.each(['80,80', '80,', 'x', '65536', '80,off'])('takes no ports as %s', async (written) => {
    expect(await problems(['--http-port', written])).toEqual([expect.stringMatching(/^http-port: .* is not allowed/)]);
  });

  it('knows every option in a file', async () => {
    const { file, folder } = toml(`
      load-definitions = "definitions.json"
      host = "::"
      amqp-port = "off"
      amqps-port = 0
      loopback-users = []
      websocket-origins = ["https://app.example", "null"]
      proxy-protocol-sources = "10.0.0.0/8, 192.0.2.1"
      tls-certificate-file = "tls/cert.pem"
      tls-key-file = "/etc/warren/key.pem"
      tls-ca-file = "ca.pem"
      tls-verify-client = "required"
    `);
    expect(await configOf(['--config', file])).toMatchObject({
      loadDefinitions: join(folder, 'definitions.json'),
      host: '::',
      amqpPort: 'off',
      amqpsPort: 0,
      loopbackUsers: [],
      websocketOrigins: ['https://app.example', 'null'],
      proxyProtocolSources: ['10.0.0.0/8', '192.0.2.1'],
      tlsCertificateFile: join(folder, 'tls/cert.pem'),
      tlsKeyFile: '/etc/warren/key.pem',
      tlsVerifyClient: 'required',
    });
  });

  it.each([
    ['0', 0],
    ['0.6', 0.6],
    ['1', 1],
    ['1048576', 2 ** 20],
    ['1024k', 2 ** 20],
    ['512MiB', 512 * 2 ** 20],
    ['1.5G', 1.5 * 2 ** 30],
    ['2 GiB', 2 ** 31],
    ['1049KB', 1_049_000],
    ['512MB', 512e6],
    ['2gb', 2e9],
  ])('reads %s as an amount of memory', async (written, memoryHighWatermark) => {
    expect(await configOf([`--memory-high-watermark=${written}`])).toMatchObject({ memoryHighWatermark });
    const { file } = toml(`memory-high-watermark = ${/^[\d.]+$/.test(written) ? written : `"${written}"`}`);
    expect(await configOf(['--config', file])).toMatchObject({ memoryHighWatermark });
  });

  it.each([
    ['disk-free-limit', '0', 0],
    ['disk-free-limit', '0.05', 0.05],
    ['disk-free-limit', '1GiB', 2 ** 30],
    ['disk-free-limit', '50MB', 50e6],
    ['message-memory', '1048576', 2 ** 20],
    ['message-memory', '1.5G', 1.5 * 2 ** 30],
    ['stomp-frame-bytes-max', '64MiB', 2 ** 26],
    ['stomp-frame-bytes-max', '1024', 1024],
    ['xmpp-stanza-bytes-max', '10KB', 10_000],
    ['message-bytes-max', '1', 1],
    ['message-bytes-max', '512M', 2 ** 29],
    ['frame-bytes-max', '4k', 4096],
    ['websocket-message-bytes-max', '0.5 GiB', 2 ** 29],
  ])('reads %s %s as an amount', async (name, written, amount) => {
    const config: Record<string, unknown> = { ...(await configOf([`--${name}`, written])) };
    const key = name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
    expect(config[key]).toBe(amount);
    const { file } = toml(`${name} = ${/^[\d.]+$/.test(written) ? written : `"${written}"`}`);
    expect((await configOf(['--config', file]))[key as keyof Config]).toBe(amount);
  });

  it('takes units wherever it takes octets, and shows its default with one', () => {
    const names = OPTION_NAMES.filter((name) => /Bytes|messageMemory|diskFree/.test(name));
    expect(names.length).toBeGreaterThan(7);
    for (const name of names) {
      const option: Option<unknown> = OPTIONS[name];
      expect(defaultText(name)).toMatch(/^\d+[KM]iB$/);
      expect(option.kind.read(defaultText(name), '/')).toBe(option.default);
    }
  });

  it('finds the data folder from the working directory, or from the folder of the file', async () => {
    expect((await configOf(['--data-dir', 'here'])).dataDir).toBe(join(process.cwd(), 'here'));
    const { file, folder } = toml('data-dir = "there"\nrecover = "salvage"');
    expect(await configOf(['--config', file])).toMatchObject({ dataDir: join(folder, 'there'), recover: 'salvage' });
    expect((await configOf(['--config', file, '--data-dir=none'])).dataDir).toBe('none');
  });

  it('reads lists from words too, and none as the empty one', async () => {
    const words = ['--loopback-users', 'none', '--websocket-origins', 'loopback,https://app.example'];
    expect(await configOf(words)).toMatchObject({
      loopbackUsers: [],
      websocketOrigins: ['loopback', 'https://app.example'],
    });
  });
});

describe('a wrong configuration', () => {
  it('names the option, where the value came from and what is allowed', async () => {
    expect(await problems(['--amqp-port', '70000'])).toEqual([
      'amqp-port: "70000" (from the command line) is not allowed: it takes a whole number, 0 (any free port) to 65535, or off',
    ]);
    expect(await problems([], { WARREN_LOG_LEVEL: 'loud' })).toEqual([
      'log-level: "loud" (from WARREN_LOG_LEVEL) is not allowed: it takes error, warn, info or debug',
    ]);
    const { file } = toml('frame-bytes-max = 4095');
    expect(await problems(['--config', file])).toEqual([
      `frame-bytes-max: 4095 (from ${file}) is not allowed: it takes octets, 4KiB to 16MiB`,
    ]);
  });

  it('is reported as a whole', async () => {
    const lines = await problems(['--amqp-port', 'x', '--host', ''], { WARREN_CHANNELS_MAX: '0' });
    expect(lines.map((line) => line.split(':')[0]).sort()).toEqual(['amqp-port', 'channels-max', 'host']);
  });

  it.each([
    ['amqp-port', '-1'],
    ['amqp-port', '5672x'],
    ['amqp-port', '0x10'],
    ['amqp-port', ' 5672'],
    ['heartbeat-seconds', '1.5'],
    ['heartbeat-seconds', '65536'],
    ['channels-max', '0'],
    ['message-bytes-max', '536870913'],
    ['message-bytes-max', '0'],
    ['message-bytes-max', '0.5'],
    ['frame-bytes-max', '4095'],
    ['frame-bytes-max', '17MiB'],
    ['stomp-frame-bytes-max', '64 miles'],
    ['connections-max', ''],
    ['log-format', 'xml'],
    ['tls-min-version', 'TLSv1.1'],
    ['websocket-origins', 'a,,b'],
    ['websocket-origins', 'app.example'],
    ['websocket-origins', 'https://app.example/'],
    ['websocket-origins', 'loopback,Null'],
    ['xmpp-domains', 'a b'],
    ['xmpp-domains', 'a@b=/'],
    ['xmpp-components', '=/'],
    ['xmpp-user-domain', 'local/host'],
    ['reverse-http-domain', 'a/b'],
    ['reverse-http-domain', 'https://a.example'],
    ['default-user', ''],
    ['memory-high-watermark', '1.5'],
    ['memory-high-watermark', '1023K'],
    ['memory-high-watermark', '512 miles'],
    ['memory-high-watermark', '-1'],
    ['memory-high-watermark', '0M'],
    ['disk-free-limit', '1'],
    ['disk-free-limit', '50'],
    ['disk-free-limit', '5%'],
    ['message-memory', '0'],
    ['message-memory', '0.5'],
    ['recover', 'yes'],
    ['data-dir', ''],
  ])('%s cannot be "%s"', async (name, value) => {
    const [line, ...others] = await problems([`--${name}`, value]);
    expect(line).toContain(`${name}: "${value}" (from the command line) is not allowed: `);
    expect(line).toContain('it takes ');
    expect(others).toEqual([]);
  });

  it.each([
    ['amqp-port = 1.5', '1.5'],
    ['amqp-port = true', 'true'],
    ['host = 127', '127'],
    ['loopback-users = "a" \nwebsocket-origins = [1]', '[1]'],
    ['log-level = ["info"]', '["info"]'],
  ])('a file cannot say %s', async (content, shown) => {
    const { file } = toml(content);
    expect((await problems(['--config', file])).join()).toContain(`: ${shown} (from ${file}) is not allowed: it takes`);
  });

  it('names the range that is none', async () => {
    expect((await problems(['--proxy-protocol-sources', '10.0.0.0/8,10.0.0.0/40'])).join()).toContain(
      '"10.0.0.0/40" is no address range; write it like 10.0.0.0/8',
    );
  });

  it('suggests the option that was meant', async () => {
    expect((await problems(['--amqp-prt', '1'])).join(' ')).toContain("'--amqp-prt' (Did you mean --amqp-port?)");
    const { file } = toml('amqp_port = 1\nnonsense = 2');
    expect(await problems(['--config', file])).toEqual([
      `amqp_port: there is no such option (in ${file}); did you mean amqp-port?`,
      `nonsense: there is no such option (in ${file}); warren --help lists them all`,
    ]);
  });

  it('does not take a flag without its value, nor words that are no flags', async () => {
    expect((await problems(['--amqp-port'])).join()).toContain('--amqp-port <port>');
    expect((await problems(['5672'])).join()).toContain('there is no command "5672": the broker starts without one');
    expect((await problems(['--amqp-port', '0', 'start'])).join()).toContain('too many arguments');
    expect(await printed(['help'])).toBe(await printed(['--help']));
  });

  it('says what is wrong with the file itself', async () => {
    expect((await problems(['--config', '/nowhere/warren.toml'])).join()).toContain(
      'config: cannot read /nowhere/warren.toml',
    );
    const { file } = toml('amqp-port = \n');
    expect((await problems(['--config', file])).join()).toContain(`config: ${file} is no TOML: `);
    expect((await problems(['--config', toml('config = "x"').file])).join()).toContain(
      'config: there is no such option',
    );
  });

  it('says which options need each other', async () => {
    expect(await problems(['--tls-certificate-file', 'c.pem'])).toEqual([
      'tls-certificate-file (from the command line) needs tls-key-file too',
    ]);
    expect(await problems([], { WARREN_AMQPS_PORT: '5671' })).toEqual([
      'amqps-port (from WARREN_AMQPS_PORT) needs tls-certificate-file and tls-key-file',
    ]);
    expect(await configOf(['--amqps-port', 'off'])).toMatchObject({ amqpsPort: 'off' });
    const tls = ['--tls-certificate-file', 'c.pem', '--tls-key-file', 'k.pem'];
    expect(await problems([...tls, '--tls-verify-client', 'optional'])).toEqual([
      'tls-verify-client (from the command line) needs tls-ca-file',
    ]);
  });

  it('never shows a password', async () => {
    const { file } = toml('default-pass = 123456');
    expect((await problems(['--config', file])).join()).toBe(
      `default-pass: the value (from ${file}) is not allowed: it takes any text`,
    );
  });
});

describe('the help', () => {
  it('shows every option', async () => {
    const help = await printed(['--help']);
    for (const name of OPTION_NAMES) expect(help).toContain(`--${spelled(name)} <`);
    expect(help).toContain('RABBITMQ_DEFAULT_USER');
  });

  it('is printed whatever else is wrong', async () => {
    expect(await printed(['--amqp-port', 'x', '--help'])).toContain('Usage: warren');
  });

  it('has the version beside it', async () => {
    expect(await printed(['--version'])).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('docs/configuration.md', () => {
  it('shows the table of options as it is', () => {
    const document = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8');
    const shown = /^## The options\n\n([\s\S]*?)\n\n## /m.exec(document)?.[1];
    expect(shown).toBe(optionTables());
  });

  it('has an example file that is allowed', async () => {
    const document = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8');
    const example = /```toml\n([\s\S]*?)```/.exec(document)?.[1] ?? '';
    const config = await configOf(['--config', toml(example).file]);
    expect(config).toMatchObject({ host: '0.0.0.0', clusterName: 'orders', proxyProtocolSources: ['10.0.0.0/24'] });
  });
});
