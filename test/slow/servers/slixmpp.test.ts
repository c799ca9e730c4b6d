/** slixmpp, the usual XMPP client of Python, on the client port. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { useXmpp } from '../../gateways/xmpp/scene.ts';
import { describeWith, ForeignProgram, PYTHON } from '../interop/foreign-program.ts';

const PROGRAM = join(import.meta.dirname, 'programs/slixmpp-client.py');

describeWith('python3-slixmpp', [PYTHON, '-c', 'import slixmpp'])('slixmpp', () => {
  const scene = useXmpp();

  it.each(['disco', 'commands', 'pubsub', 'contact'])('%s', async (scenario) => {
    const program = new ForeignProgram(PYTHON, [PROGRAM, String(scene.port), scenario, 'guest@localhost', 'guest']);
    await program.succeeds();
    // It has more to say about itself, on the other output.
    expect(program.printed).toMatch(/^done$/m);
  });
});
