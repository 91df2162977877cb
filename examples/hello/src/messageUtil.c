/* Greets whoever is named on the command line. */
#include <stdio.h>

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: messageUtil NAME\n");
        return 2;
    }
    printf("Hi!%s\n", arguments[1]);
    return 0;
}
