/**
 * amqplib's own test suite against the broker under test. The package of version 2.0.1 is the last that ships it, the
 * same files as the repository had then; see README.md in this folder.
 */
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { useBroker } from '../../support/broker-under-test.ts';
import { PROGRAMS } from '../interop/foreign-program.ts';

const PACKAGE = dirname(createRequire(import.meta.url).resolve('amqplib-suite'));
const FILES = readdirSync(join(PACKAGE, 'test')).filter((file) => file.endsWith('.test.js'));

/** Its `connect.test.js` wants to hear that the product is RabbitMQ. */
const broker = useBroker({ amqp: { announcedProduct: { product: 'RabbitMQ', version: '3.13.7' } } });

interface Outcome {
  readonly passed: number;
  readonly failed: readonly string[];
}

/** Runs one file with node's own test runner and reads its report. */
function runFile(file: string): Promise<Outcome> {
  const preload = ['--require', join(PROGRAMS, 'redirect-amqp-port.cjs')];
  const runner = ['--test', '--test-timeout=30000', '--test-reporter=tap', join('test', file)];
  const env = { ...process.env, AMQP_PORT: String(broker.port), NODE_OPTIONS: '' };
  return new Promise((resolve) => {
    execFile(process.execPath, [...preload, ...runner], { cwd: PACKAGE, env }, (_failure, report) => {
      const passed = Number(/^# pass (\d+)$/m.exec(report)?.[1] ?? 0);
      resolve({ passed, failed: report.match(/^ *not ok .*$/gm) ?? [] });
    });
  });
}

describe('the suite of amqplib 2.0.1', () => {
  let total = 0;

  it.each(FILES)('%s', async (file) => {
    const { passed, failed } = await runFile(file);
    expect(failed).toEqual([]);
    expect(passed).toBeGreaterThan(0);
    total += passed;
  });

  it('was all there', () => {
    expect(total).toBe(317);
  });
});
