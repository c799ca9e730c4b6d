/**
 * The suite of RabbitMQ's own Go client (rabbitmq/amqp091-go) against the broker under test. Debian's package of the
 * client holds its source with all tests, those that need a broker included.
 */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { amqpUrl } from '../../interop/clients.ts';
import { isWarren, useBroker } from '../../support/broker-under-test.ts';
import { describeWith } from '../interop/foreign-program.ts';

const GO_PATH = '/usr/share/gocode';
const PACKAGE = 'github.com/rabbitmq/amqp091-go';

/** Tests that Warren fails on purpose, with the reason. */
const DEVIATIONS: readonly string[] = [
  // Expects channel.flow(active=false) to be refused with 540, as RabbitMQ does; Warren honours it.
  'TestIntegrationConsumeFlow',
];

const broker = useBroker();

interface Event {
  readonly Action: string;
  readonly Test?: string;
  readonly Output?: string;
}

const probe = ['sh', '-c', `go version && ls ${GO_PATH}/src/${PACKAGE}/integration_test.go`];

describeWith('golang-go golang-github-rabbitmq-amqp091-go-dev', probe)('the suite of the Go client', () => {
  let cache: string;

  beforeAll(() => {
    cache = mkdtempSync(join(tmpdir(), 'warren-go-'));
  });

  afterAll(() => rmSync(cache, { recursive: true, force: true }));

  function environment(): NodeJS.ProcessEnv {
    const [url] = amqpUrl(broker).split('?');
    return { ...process.env, GO111MODULE: 'off', GOPATH: GO_PATH, GOCACHE: cache, GOFLAGS: '', AMQP_URL: url };
  }

  function namesOfTests(): string[] {
    const list = ['test', '-tags', 'integration', '-list', '.', PACKAGE];
    const printed = execFileSync('go', list, { env: environment(), encoding: 'utf8' });
    return printed.split('\n').filter((line) => /^(Test|Example)/.test(line));
  }

  it('passes, but for the deviations listed', async () => {
    const names = namesOfTests().filter((name) => !isWarren || !DEVIATIONS.includes(name));
    const args = ['test', '-tags', 'integration', '-count=1', '-json', '-run', `^(${names.join('|')})$`, PACKAGE];
    const report = await new Promise<string>((resolve) => {
      const options = { env: environment(), maxBuffer: 64 * 1024 * 1024 };
      execFile('go', args, options, (_failure, printed, errors) => resolve(`${printed}${errors}`));
    });
    const lines = report.split('\n').filter((line) => line.startsWith('{'));
    const events = lines.map((line) => JSON.parse(line) as Event);
    const passed = events.filter(({ Action, Test }) => Action === 'pass' && Test !== undefined);
    const failed = events.filter(({ Action, Test }) => Action === 'fail' && Test !== undefined);
    const said = events
      .filter(({ Test }) => failed.some((failure) => failure.Test === Test))
      .map(({ Output }) => Output);
    expect(
      failed.map(({ Test }) => Test),
      said.join(''),
    ).toEqual([]);
    expect(passed.length, report.slice(-2000)).toBeGreaterThanOrEqual(names.length);
  });
});
