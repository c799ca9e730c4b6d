/** `warren export`: definitions and messages out of a data folder, which stays as it is to the octet. */
import { join } from 'node:path';
import { Command } from 'commander';
import { exportLines } from '../../broker/archive/export-archive.ts';
import { CopyOnWriteFiles } from '../../broker/storage/folder/copy-on-write-files.ts';
import { type FileStatus, nodeFiles } from '../../broker/storage/folder/files.ts';
import { FORMAT_FILE } from '../../broker/storage/folder/format.ts';
import { StoreError, storeErrorOf } from '../../broker/storage/store-error.ts';
import { ConfigError, type Environment, readOptions } from '../config.ts';
import { packageVersion } from '../package.ts';
import { openFolder, requireFolder, runCommand, type Say, sayEvent } from './command.ts';
import { lineFile, standardOutput } from './lines.ts';

const HELP_END = `
Without --messages this is the JSON that RabbitMQ exports and imports. With messages it is an archive
for warren import, a line of JSON for each message. Password hashes are in both.`;

/** Answers the exit code. */
export function exportCommand(words: readonly string[], environment: Environment): Promise<number> {
  return runCommand('warren export', async (say) => {
    const command = new Command('warren export')
      .description('Writes what is in the data folder of a broker that is not running. The folder stays as it is.')
      .argument('[file]', 'where to; - is the standard output, and the default')
      .option('--messages <queue>', 'with the messages of this queue; may be given several times', collect, [])
      .option('--all-messages', 'with the messages of every queue and of exchanges that delay')
      .option('--vhost <name>', 'only this virtual host')
      .addHelpText('after', HELP_END);
    const request = await readOptions(command, ['config', 'dataDir', 'recover', 'messageMemory'], words, environment);
    if (!request.run) {
      process.stdout.write(request.text);
      return;
    }
    const dataDir = requireFolder(request.config);
    await requireFormat(dataDir);
    const { messages, allMessages, vhost } = command.opts<ExportFlags>();
    const file = command.args[0] ?? '-';
    const store = await openFolder({ ...request.config, dataDir }, new CopyOnWriteFiles(nodeFiles), say);
    try {
      const lines = exportLines(store, {
        vhost,
        messages: allMessages === true ? 'all' : messages.length > 0 ? messages : 'none',
        writtenBy: `warren ${packageVersion()}`,
        nowMs: Date.now(),
        recover: request.config.recover,
        onStoreEvent: (event) => sayEvent(event, say),
      });
      await write(lines, file, say);
    } finally {
      await store.close();
    }
  });
}

interface ExportFlags {
  readonly messages: readonly string[];
  readonly allMessages?: boolean;
  readonly vhost?: string;
}

function collect(queue: string, before: readonly string[]): readonly string[] {
  if (queue === '') throw new ConfigError('--messages takes the name of a queue');
  return [...before, queue];
}

/** To look for something to export must not make a folder. */
async function requireFormat(dataDir: string): Promise<void> {
  const advice = 'say with --data-dir where the data folder of the broker is';
  const look = (path: string): Promise<FileStatus | undefined> =>
    nodeFiles.status(path).catch((error) => {
      throw storeErrorOf(error, 'cannot read', path);
    });
  const folder = await look(dataDir);
  if (folder === undefined) throw new StoreError(dataDir, `there is nothing at ${dataDir}: ${advice}`);
  if (folder.kind !== 'folder') throw new StoreError(dataDir, `${dataDir} is not a folder: ${advice}`);
  if ((await look(join(dataDir, FORMAT_FILE)))?.kind === 'file') return;
  throw new StoreError(dataDir, `${dataDir} is no data folder of Warren, there is no ${FORMAT_FILE} in it: ${advice}`);
}

async function write(lines: AsyncGenerator<string, number>, file: string, say: Say): Promise<void> {
  // The first line says whether there is anything to write.
  let next = await lines.next();
  const sink = file === '-' ? standardOutput() : await lineFile(file);
  try {
    for (; !next.done; next = await lines.next()) await sink.write(next.value);
    await sink.finish();
  } catch (error) {
    await sink.discard();
    throw error;
  }
  const count = next.value;
  if (file !== '-') say(`definitions${count === 0 ? '' : ` and ${count} messages`} written to ${file}`);
}
