/** curl alone: as an application, as a visitor, and with its ways to log in. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { loadTls } from '../../../gateways/tls.ts';
import { ptthApplication } from '../../gateways/reverse-http/application.ts';
import { Scene } from '../../gateways/reverse-http/scene.ts';
import { issue, makeAuthority, writePems } from '../../support/certificates.ts';
import { eventually } from '../../support/eventually.ts';
import { describeWith, ForeignProgram } from '../interop/foreign-program.ts';

const run = promisify(execFile);

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open({ pollSeconds: 2 });
});

afterEach(() => scene.close());

async function curl(...args: readonly string[]): Promise<string> {
  return (await run('curl', ['--silent', '--show-error', '--max-time', '20', ...args])).stdout;
}

const status = (...args: readonly string[]): Promise<string> =>
  curl('--output', '/dev/null', '--write-out', '%{http_code}', ...args);

describeWith('curl', ['curl', '--version'])('curl', () => {
  it('serves pages to another curl with the loop of the README', async () => {
    const readme = readFileSync(join(import.meta.dirname, '../../../README.md'), 'utf8');
    const loop = readme.match(/```sh\n(broker=[^`]*)```/)?.[1] ?? '';
    const folder = await mkdtemp(join(tmpdir(), 'warren-curl-'));
    const here = `cd ${folder}\n${loop.replace('http://127.0.0.1:8080', scene.base)}`;
    const server = new ForeignProgram('sh', ['-c', here]);
    try {
      await eventually(async () => expect((await scene.overview()).slots).toBe(1), { timeoutMs: 20_000 });
      for (const path of ['/', '/a/b?c', '/again']) {
        expect(await curl(`${scene.base}/http/hello${path}`)).toBe('Hello from curl\n');
      }
      expect(await curl('--data', 'x', `${scene.base}/http/hello/posted`)).toBe('Hello from curl\n');
    } finally {
      await server.stop();
    }
  });

  it('logs in with Basic, Digest of the algorithm it likes best, and a bearer token', async () => {
    const overview = `${scene.base}/reversehttp`;
    expect(await status(overview)).toBe('401');
    expect(await status('--user', 'guest:guest', overview)).toBe('200');
    expect(await status('--digest', '--user', 'guest:guest', overview)).toBe('200');
    expect(await status('--digest', '--user', 'guest:wrong', overview)).toBe('401');
    expect(await status('--digest', '--user', 'guest:guest', '--data', 'name=foo', overview)).toBe('201');
    expect(await status('--anyauth', '--user', 'guest:guest', overview, '--output', '/dev/null', overview)).toContain(
      '200',
    );
    const { access_token } = JSON.parse(
      await curl('--request', 'POST', '--user', 'guest:guest', `${scene.base}/reversehttp-token`),
    );
    expect(await status('--oauth2-bearer', access_token, overview)).toBe('200');
  });

  it('logs in with a client certificate', async () => {
    const authority = await makeAuthority('the authority');
    const server = await issue(authority, [{ name: 'commonName', value: 'localhost' }]);
    const client = await issue(authority, [{ name: 'commonName', value: 'guest' }]);
    const pems = {
      certificate: server.cert,
      key: server.key,
      ca: authority.cert,
      own: client.cert,
      ownKey: client.key,
    };
    const files = await writePems(pems);
    const tls = await loadTls({
      certificateFile: files.certificate,
      keyFile: files.key,
      caFile: files.ca,
      verifyClient: 'optional',
      certificateName: 'common-name',
      minVersion: 'TLSv1.2',
    });
    const secure = await Scene.open({}, { tls });
    try {
      const trust = ['--cacert', files.ca, `https://127.0.0.1:${secure.port}/reversehttp`];
      expect(await status(...trust)).toBe('401');
      expect(await status('--cert', files.own, '--key', files.ownKey, ...trust)).toBe('200');
    } finally {
      await secure.close();
    }
  });

  it('publishes, waits, acknowledges and follows', async () => {
    const channel = await scene.channel();
    await channel.declareQueue({ queue: 'q' });
    const user = ['--user', 'guest:guest'];
    expect(await status(...user, '--data', 'hello', `${scene.base}/exchange/amq.default/q?wait`)).toBe('200');
    const answer = await curl(...user, '--include', `${scene.base}/queue/q`);
    expect(answer).toMatch(/hello$/);
    const [, ack = ''] = /^Link: <(.*)>; rel="ack"/m.exec(answer) ?? [];
    expect(await status('--request', 'POST', ack)).toBe('204');
    expect(await scene.depth('q')).toBe(0);
    const follower = new ForeignProgram('curl', [
      ...['--no-buffer', '--silent', ...user, '--header', 'Accept: text/event-stream'],
      `${scene.base}/queue/q`,
    ]);
    try {
      await follower.waitFor('retry: ');
      await status(...user, '--data', 'an event', `${scene.base}/exchange/amq.default/q`);
      await follower.waitFor('data: an event');
    } finally {
      await follower.stop();
    }
  });

  it('uploads and downloads what streams through a reversed connection, and offers h2c without effect', async () => {
    await ptthApplication(scene, 'foo', (request, response) => request.pipe(response));
    const upload = ['--data-binary', `@${process.execPath}`, '--header', 'Expect: 100-continue'];
    const sent = await curl(
      ...upload,
      '--output',
      '/dev/null',
      '--write-out',
      '%{size_upload} %{size_download}',
      `${scene.base}/http/foo/`,
    );
    const [up, down] = sent.split(' ').map(Number);
    expect(up).toBeGreaterThan(16 * 1024 * 1024);
    expect(down).toBe(up);
    expect(await status('--http2', `${scene.base}/http/foo/`)).toBe('200');
  });
});
