"""The material of the user guide's getting-started walk-through: a small C program in place of its Java sample."""

import json

from local import spec

SOURCE = """\
#include <stdio.h>
#include "message_util.h"

int main(void) {
    return print_message("Robert") ? 0 : 1;
}
"""

UTIL = """\
#include <stdio.h>
#include "message_util.h"

int print_message(const char *name) {
    return printf("Inside printMessage()\\nHi!%s\\n", name) > 0;
}
"""

HEADER = "int print_message(const char *name);\n"

BUILDSPEC = spec(
    install=["VERSION=1.0.$CODEBUILD_BUILD_NUMBER"],
    pre_build=["echo Nothing to do in the pre_build phase... && mkdir -p target"],
    build=["echo Build started", "cc -Wall -Werror -o target/messageUtil src/*.c"],
    post_build=["./target/messageUtil", "echo Build completed"],
) | {
    "env": {"exported-variables": ["VERSION"]},
    "artifacts": {"files": ["target/messageUtil"]},
}


def write(project):
    """The tree of MessageUtil.zip: files at its root, no folder around them (EN-087)."""
    project.write("src/main.c", SOURCE)
    project.write("src/message_util.c", UTIL)
    project.write("src/message_util.h", HEADER)
    project.buildspec(BUILDSPEC)
    return project


def create_project_json(input_bucket, output_bucket, packaging="NONE"):
    """create-project.json as the guide has it."""
    artifacts = {"type": "S3", "location": output_bucket}
    if packaging == "ZIP":
        artifacts |= {"packaging": "ZIP", "path": "builds", "namespaceType": "BUILD_ID", "name": "MessageUtil.zip"}
    return json.dumps(
        {
            "name": "codebuild-demo-project",
            "source": {"type": "S3", "location": f"{input_bucket}/MessageUtil.zip"},
            "artifacts": artifacts,
            "environment": {
                "type": "LINUX_CONTAINER",
                "image": "aws/codebuild/standard:7.0",
                "computeType": "BUILD_GENERAL1_SMALL",
            },
            "serviceRole": "arn:aws:iam::123456789012:role/CodeBuildServiceRole",
        }
    )
