/**
 * A program on AWS's own client for TypeScript, unmodified. It says what it has seen, one line each.
 *
 *   node agentcore_client.mjs MODULES TOKEN MODE…      sigv4, presigned, oauth: all at the same time
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, token, ...modes] = process.argv.slice(2);
const at = join(modules, "bedrock-agentcore", "dist", "src", "runtime", "index.js");
const { RuntimeClient, ShellChannel } = await import(pathToFileURL(at).href);

const runtimeArn = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/my_agent-AbCdEf1234";
const ways = { sigv4: "sigv4", presigned: { type: "presigned", expires: 60 }, oauth: { type: "oauth", bearerToken: token } };

/** Reads to where `wanted` is; without it, to the end. Leaving a `for await` would end the shell's iterator. */
async function see(frames, wanted) {
  let got = "";
  for (let next = await frames.next(); !next.done; next = await frames.next()) {
    if (next.value.channel === ShellChannel.STDOUT) got += next.value.text;
    if (wanted && got.includes(wanted)) return;
  }
  if (wanted) throw new Error(`${JSON.stringify(wanted)} did not come: ${JSON.stringify(got)}`);
}

async function run(mode) {
  const say = (...words) => process.stdout.write([mode, ...words].join(" ") + "\n");
  const client = new RuntimeClient({ region: "us-west-2" });
  const sessionId = `of-the-${mode}-client-${"0".repeat(33)}`;
  const open = (shellId, more) => client.openShell({ runtimeArn, sessionId, shellId, auth: ways[mode], ...more });
  let back;
  const returned = new Promise((resolve) => (back = resolve));

  const shell = await open("build", { reconnectConfig: { maxRetries: 5, baseDelay: 50, onReconnect: back } });
  const frames = shell[Symbol.asyncIterator]();
  await shell.resize(90, 30);
  await shell.send("x=kept; stty size\n");
  await see(frames, "30 90");
  say("ready", shell.reconnected, shell.sessionId === sessionId);
  const again = await returned; // nobody reads meanwhile: this client lets a reader wait ten seconds more
  await shell.sendHeartbeat();
  await shell.send("echo $x-$x\n");
  await see(frames, "kept-kept");
  say("returned", again);

  const other = await open("build");
  await other.send("echo o''ther\n");
  const others = other[Symbol.asyncIterator]();
  await see(others, "other");
  await see(frames);
  say("kicked", shell.kicked, other.reconnected);
  await other.send("exit 3\n");
  await see(others);
  say("exit", other.exitCode);

  const third = await open("third");
  await third.close(); // for good: the next of that name is another one
  const fourth = await open("third");
  say("closed", fourth.reconnected);
  await fourth.close();
}

await Promise.all(modes.map(run));
