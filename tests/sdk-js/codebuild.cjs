// CodeBuild as a user of the AWS SDK for JavaScript has it: one scenario a run, `node codebuild.cjs SCENARIO`, against the
// server that AWS_ENDPOINT_URL and the other usual variables name. tests/system/test_javascript.py runs them all.
//
// PROTOCOL=cbor has the client speak smithy-rpc-v2-cbor instead of its default, awsJson1.1.
"use strict";

const assert = require("node:assert/strict");
const codebuild = require("@aws-sdk/client-codebuild");
const { CloudWatchLogsClient, paginateFilterLogEvents } = require("@aws-sdk/client-cloudwatch-logs");

const settings = { maxAttempts: 1 };
if (process.env.PROTOCOL === "cbor") {
  const { SmithyRpcV2CborProtocol } = require("@smithy/core/cbor");
  settings.protocol = SmithyRpcV2CborProtocol;
}
const client = new codebuild.CodeBuildClient(settings);
const send = (name, input = {}) => client.send(new codebuild[`${name}Command`](input));

const PATIENCE_MS = 60_000;
const UNKNOWN = "nobody:00000000-0000-4000-8000-000000000000";
const BUILDSPEC = JSON.stringify({ version: 0.2, phases: { build: { commands: ['echo "Hi, $NAME"'] } } });
const ENDLESS = JSON.stringify({ version: 0.2, phases: { build: { commands: ["sleep 100000"] } } });

function project(name, more = {}) {
  return {
    name,
    source: { type: "NO_SOURCE", buildspec: BUILDSPEC },
    artifacts: { type: "NO_ARTIFACTS" },
    environment: {
      type: process.arch === "arm64" ? "ARM_CONTAINER" : "LINUX_CONTAINER",
      image: "aws/codebuild/standard:7.0",
      computeType: "BUILD_GENERAL1_SMALL",
    },
    serviceRole: "arn:aws:iam::123456789012:role/codebuild",
    ...more,
  };
}

/** The build once `holds` is true of it. */
async function buildWhen(id, holds) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const { builds } = await send("BatchGetBuilds", { ids: [id] });
    if (holds(builds[0])) return builds[0];
    assert.ok(Date.now() < deadline, `still not: ${holds} of ${JSON.stringify(builds[0].phases)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The error that a call fails with, which is of the SDK's own class of that name. */
async function errorOf(name, input) {
  const error = await send(name, input).then(
    () => assert.fail(`${name} has not failed`),
    (error) => error,
  );
  assert.ok(error instanceof codebuild.CodeBuildServiceException, `${error}`);
  assert.equal(error.$fault, "client");
  assert.equal(error.$metadata.httpStatusCode, 400);
  assert.ok(error.$metadata.requestId);
  assert.ok(error.message);
  return error;
}

const scenarios = {
  async projects() {
    const tags = [{ key: "b", value: "1" }, { key: "a", value: "" }];
    const made = (await send("CreateProject", project("js", { tags, timeoutInMinutes: 5 }))).project;
    assert.ok(made.created instanceof Date && Math.abs(Date.now() - made.created) < PATIENCE_MS); // AP-002
    assert.deepEqual(made.tags, tags);
    assert.deepEqual(made.badge, { badgeEnabled: false }); // AP-053
    assert.equal(made.timeoutInMinutes, 5);
    assert.equal(made.description, undefined); // AP-002
    const changed = (await send("UpdateProject", { name: "js", description: "changed", tags: [] })).project;
    assert.equal(changed.description, "changed"); // AP-061
    assert.deepEqual([changed.tags, changed.source, changed.created], [[], made.source, made.created]);
    const found = await send("BatchGetProjects", { names: [made.arn, "nobody"] }); // AP-005, AP-009
    assert.deepEqual(found.projects, [changed]);
    assert.deepEqual(found.projectsNotFound, ["nobody"]);
    await send("InvalidateProjectCache", { projectName: "js" });
    await send("DeleteProject", { name: "js" });
    await send("DeleteProject", { name: "js" }); // AP-062
    assert.deepEqual((await send("BatchGetProjects", { names: ["js"] })).projectsNotFound, ["js"]);
  },

  // AP-006, AP-064
  async pages() {
    const names = Array.from({ length: 205 }, (_, number) => `js-page-${String(number).padStart(3, "0")}`);
    await Promise.all(names.map((name) => send("CreateProject", project(name))));
    const pages = [];
    for await (const page of codebuild.paginateListProjects({ client }, { sortBy: "NAME" })) pages.push(page.projects);
    assert.deepEqual(pages.slice(0, -1).map((page) => page.length), pages.slice(0, -1).map(() => 100));
    assert.deepEqual(pages.flat().filter((name) => name.startsWith("js-page-")), names);
    for await (const page of codebuild.paginateListSharedProjects({ client, pageSize: 1 }, {})) {
      assert.deepEqual(page.projects, []);
    }
    await Promise.all(names.map((name) => send("DeleteProject", { name })));
  },

  // AP-050, AP-070, AP-073..078
  async builds() {
    await send("CreateProject", project("js-builds"));
    const environmentVariablesOverride = [{ name: "NAME", value: "Robert" }];
    const started = (await send("StartBuild", { projectName: "js-builds", environmentVariablesOverride })).build;
    assert.equal(started.buildStatus, "IN_PROGRESS");
    const build = await buildWhen(started.id, (build) => build.buildComplete);
    assert.equal(build.buildStatus, "SUCCEEDED", JSON.stringify(build.phases));
    assert.ok(build.endTime >= build.startTime);
    const place = { logGroupName: build.logs.groupName, logStreamNames: [build.logs.streamName] };
    const log = [];
    for await (const page of paginateFilterLogEvents({ client: new CloudWatchLogsClient({}) }, place)) {
      log.push(...page.events.map((event) => event.message));
    }
    assert.ok(log.includes("Hi, Robert\n"), log.join(""));

    const again = (await send("RetryBuild", { id: build.arn })).build;
    assert.equal(again.buildNumber, build.buildNumber + 1);
    await buildWhen(again.id, (build) => build.buildComplete);
    const { ids } = await send("ListBuildsForProject", { projectName: "js-builds" });
    assert.deepEqual(ids, [again.id, build.id]);
    const gone = await send("BatchDeleteBuilds", { ids: [...ids, UNKNOWN] });
    assert.deepEqual(gone.buildsDeleted.sort(), [again.arn, build.arn].sort());
    assert.equal(gone.buildsNotDeleted.length, 1);
    assert.deepEqual((await send("BatchGetBuilds", { ids })).buildsNotFound, ids);
    await send("DeleteProject", { name: "js-builds" });
  },

  // AP-076
  async stop() {
    await send("CreateProject", project("js-stop", { source: { type: "NO_SOURCE", buildspec: ENDLESS } }));
    const { build } = await send("StartBuild", { projectName: "js-stop" });
    await buildWhen(build.id, (build) => build.currentPhase === "BUILD");
    await send("StopBuild", { id: build.id });
    const stopped = await buildWhen(build.id, (build) => build.buildComplete);
    assert.equal(stopped.buildStatus, "STOPPED");
    assert.equal((await send("StopBuild", { id: build.id })).build.buildStatus, "STOPPED");
    await send("DeleteProject", { name: "js-stop" });
  },

  // AP-110..112
  async credentials() {
    const asked = { serverType: "GITHUB", authType: "PERSONAL_ACCESS_TOKEN", token: "secret" };
    const { arn } = await send("ImportSourceCredentials", asked);
    const infos = (await send("ListSourceCredentials")).sourceCredentialsInfos;
    assert.deepEqual(infos, [{ arn, serverType: asked.serverType, authType: asked.authType }]);
    const taken = await errorOf("ImportSourceCredentials", { ...asked, shouldOverwrite: false });
    assert.ok(taken instanceof codebuild.ResourceAlreadyExistsException);
    assert.equal((await send("DeleteSourceCredentials", { arn })).arn, arn);
    const missing = await errorOf("DeleteSourceCredentials", { arn });
    assert.ok(missing instanceof codebuild.ResourceNotFoundException);
  },

  // AP-003, AP-004
  async errors() {
    const missing = await errorOf("StartBuild", { projectName: "nobody" });
    assert.ok(missing instanceof codebuild.ResourceNotFoundException);
    const bad = await errorOf("StopBuild", { id: "no id" });
    assert.ok(bad instanceof codebuild.InvalidInputException);
    await send("CreateProject", project("js-twice"));
    const twice = await errorOf("CreateProject", project("js-twice"));
    assert.ok(twice instanceof codebuild.ResourceAlreadyExistsException);
    await send("DeleteProject", { name: "js-twice" });
    const token = await errorOf("ListProjects", { nextToken: "made up" });
    assert.ok(token instanceof codebuild.InvalidInputException);
    const short = await errorOf("CreateProject", project("x"));
    assert.match(short.message, /name/);
    const later = await errorOf("ListFleets", {});
    assert.match(later.message, /ListFleets is not available in this version/);
  },
};

const scenario = scenarios[process.argv[2]];
if (!scenario) {
  console.log(Object.keys(scenarios).join("\n"));
} else {
  scenario().catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
}
