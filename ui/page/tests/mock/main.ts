import { start } from "./server";

const mock = await start(new URL("../../assets", import.meta.url).pathname, Number(process.argv[2] ?? 0));
console.log(`${mock.address}/small/`);
