// The official JavaScript SDK against the service: node sdk.mjs BASE_URL KEY. Prints what it saw as JSON, by the scenario's name.
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
let sent = 0;
const counting = (...request) => {
  sent += 1;
  return fetch(...request);
};
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, fetch: counting });
const asked = [{ role: "user", content: "What is 6 * 7?" }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const failing = (fault) => [{ role: "user", content: `What is 6 * 7? [[mock: fault=${fault}]]` }];
const slow = [{ role: "user", content: "What is 6 * 7? [[mock: chunk=120]]" }];
const cities = (calls) => calls.map((call) => JSON.parse(call.function.arguments).city);
const create = (body) => client.chat.completions.create({ messages: asked, ...body });

async function raised(work) {
  try {
    await work();
    return null;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status ?? null, code: error.code ?? null, message: error.message };
  }
}

async function read(stream) {
  const seen = { text: "", chunks: 0, usage: null, finish: null, strategy: null };
  for await (const chunk of stream) {
    seen.chunks += 1;
    seen.text += chunk.choices[0]?.delta.content ?? "";
    seen.finish ??= chunk.choices[0]?.finish_reason ?? null;
    seen.usage ??= chunk.usage ?? null;
    seen.strategy ??= chunk.quorum?.strategy ?? null;
  }
  return seen;
}

const scenarios = {
  async create() {
    const whole = await create({ model: "panel" });
    return { text: whole.choices[0].message.content, usage: whole.usage, strategy: whole.quorum.strategy };
  },
  async stream() {
    return read(await create({ model: "panel", stream: true, stream_options: { include_usage: true } }));
  },
  async keepAlive() {
    return read(await create({ model: "swift", messages: slow, stream: true }));
  },
  async tools() {
    const messages = [{ role: "user", content: "What is the weather in both Paris and Oslo?" }];
    const whole = await create({ model: "swift", messages, tools: [weather] });
    const streamed = client.chat.completions.stream({ model: "swift", messages, tools: [weather] });
    const calls = (await streamed.finalChatCompletion()).choices[0].message.tool_calls;
    return { whole: cities(whole.choices[0].message.tool_calls), streamed: cities(calls) };
  },
  async schema() {
    const schema = { type: "object", properties: { capital: { type: "string" } }, required: ["capital"] };
    const response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
    return JSON.parse((await create({ model: "swift", response_format })).choices[0].message.content);
  },
  async failures() {
    const found = {};
    for (const fault of ["invalid_request", "rate_limited", "overloaded", "server_error"])
      for (const stream of [false, true])
        found[`${fault} ${stream}`] = await raised(() => create({ model: "swift", messages: failing(fault), stream }));
    return found;
  },
  async broken() {
    const found = {};
    for (const fault of ["truncate:2", "midstream-error:2", "connection:2"])
      found[fault] = await raised(async () => read(await create({ model: "swift", messages: failing(fault), stream: true })));
    return found;
  },
  async repeated() {
    const eager = new OpenAI({ baseURL, apiKey, maxRetries: 2, fetch: counting });
    const before = sent;
    await raised(() => eager.chat.completions.create({ model: "swift", messages: failing("server_error") }));
    return sent - before;
  },
  async models() {
    return (await client.models.list()).data.map((model) => model.id);
  },
};

const seen = {};
for (const [name, scenario] of Object.entries(scenarios)) seen[name] = await scenario();
console.log(JSON.stringify(seen));
