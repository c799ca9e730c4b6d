/** Who may publish now. */
import { expect, it, onTestFinished } from 'vitest';
import { Admission } from '../../../gateways/reverse-http/admission.ts';
import { answer, consumerApplication, GUEST, Scene } from './scene.ts';

it('refuses under an alarm, and waits while the broker catches up with its disk', async () => {
  const admission = new Admission();
  await admission.pass(0);
  admission.events.onAlarms(['disk']);
  await expect(admission.pass(0)).rejects.toMatchObject({ status: 503, headers: { 'Retry-After': '5' } });
  admission.events.onAlarms([]);
  admission.events.onFlow(true);
  await expect(admission.pass(1)).rejects.toMatchObject({ status: 503 });
  const passed: number[] = [];
  const passing = [1, 2].map((number) => admission.pass(60_000).then(() => passed.push(number)));
  await new Promise(setImmediate);
  expect(passed).toEqual([]);
  admission.events.onFlow(false);
  await Promise.all(passing);
  expect(passed).toEqual([1, 2]);
});

// For the first visitor a connection is opened, and the broker says only at the end of its turn what is in force.
it.each(['everyone', 'users'] as const)(
  'refuses the very first visitor under an alarm, when visitors: %s',
  async (visitors) => {
    const scene = await Scene.open({ visitors });
    onTestFinished(() => scene.close());
    await scene.claim({ name: 'foo' });
    const taken: string[] = [];
    await consumerApplication(scene, 'rhttp.foo', (request) => {
      taken.push(request);
      return answer('x');
    });
    await scene.broker.administration.setAlarm('memory', true);
    const { status } = await scene.fetch('/http/foo/', { headers: GUEST });
    expect({ status, taken, depth: await scene.depth('rhttp.foo') }).toEqual({ status: 503, taken: [], depth: 0 });
  },
);
